//! Trust in clusters, provisioned sessions that outlive a crash, sealed keys and counters.

use std::collections::BTreeMap;

use nullius_model::ClusterName;
use nullius_store::{AgentShape, ProvisionState, Sealed};

use crate::{both, later, now, on_file, session};

fn cluster(name: &str) -> ClusterName {
    name.parse().unwrap()
}

fn uids(names: &[&str]) -> BTreeMap<String, String> {
    names.iter().map(|name| ((*name).to_owned(), format!("uid-{name}"))).collect()
}

#[tokio::test]
async fn what_was_made_in_a_cluster_is_known_until_it_is_gone() {
    for (store, _directory) in both().await {
        let (dev, prod) = (cluster("dev"), cluster("prod"));
        let id = session(1);
        let mut tx = store.begin().await.unwrap();
        let asked = tx.clusters().request_provision(&id, &dev, 1, now()).await.unwrap().unwrap();
        assert_eq!((asked.state, asked.uids.len()), (ProvisionState::Requested, 0));
        let ready = tx.clusters().provision_ready(&id, &dev, 1, &uids(&["sa"]), now()).await;
        assert_eq!(ready.unwrap().unwrap().state, ProvisionState::Ready);
        tx.clusters().request_provision(&id, &dev, 2, now()).await.unwrap().unwrap();
        let late =
            tx.clusters().provision_ready(&id, &dev, 1, &uids(&["rb"]), now()).await.unwrap();
        assert_eq!(late, None, "an answer to an older plan makes nothing ready");
        let older = tx.clusters().request_provision(&id, &dev, 1, now()).await.unwrap();
        assert_eq!(older, None, "an older plan does not replace a newer one");
        tx.clusters().request_provision(&id, &prod, 1, now()).await.unwrap();

        let flushing = tx.clusters().begin_flush(&id, later(1)).await.unwrap();
        assert_eq!(flushing.len(), 2);
        assert_eq!(flushing[0].uids, uids(&["sa", "rb"]), "the late answer is to be removed too");
        let refused = tx.clusters().request_provision(&id, &dev, 3, later(2)).await.unwrap();
        assert_eq!(refused, None, "nothing is made while it is flushed");
        let late = tx.clusters().provision_ready(&id, &dev, 2, &uids(&["x"]), later(2)).await;
        assert_eq!(late.unwrap(), None);
        assert_eq!(tx.clusters().pending_flushes().await.unwrap().len(), 2);
        let gone = tx.clusters().flushed(&id, &dev).await.unwrap().unwrap();
        assert_eq!(gone.uids.len(), 3);
        assert_eq!(tx.clusters().flushed(&id, &dev).await.unwrap(), None);
        let pending = tx.clusters().pending_flushes().await.unwrap();
        assert_eq!(pending.iter().map(|it| &it.cluster).collect::<Vec<_>>(), [&prod]);
        assert_eq!(tx.clusters().forget_provisioned(&prod).await.unwrap(), 1);

        tx.clusters().request_provision(&session(2), &dev, 1, now()).await.unwrap();
        assert_eq!(
            tx.clusters().flushed(&session(2), &dev).await.unwrap(),
            None,
            "not flushed yet"
        );
        let one = tx.clusters().begin_flush_in(&session(2), &dev, now()).await.unwrap().unwrap();
        assert_eq!(one.state, ProvisionState::Flushing);
        assert_eq!(tx.clusters().provisioned_in(&dev).await.unwrap(), [one]);
    }
}

#[tokio::test]
async fn a_pending_flush_outlives_the_hub() {
    let directory = tempfile::tempdir().unwrap();
    let store = on_file(directory.path()).await;
    let mut tx = store.begin().await.unwrap();
    tx.clusters().request_provision(&session(1), &cluster("dev"), 1, now()).await.unwrap();
    tx.clusters().begin_flush(&session(1), now()).await.unwrap();
    tx.commit().await.unwrap();
    drop(store);
    let store = on_file(directory.path()).await;
    let mut reader = store.read().await.unwrap();
    assert_eq!(reader.clusters().pending_flushes().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_cluster_is_trusted_by_its_registered_keys() {
    for (store, _directory) in both().await {
        let dev = cluster("dev");
        let mut tx = store.begin().await.unwrap();
        let (issuer, keys) = ("https://issuer", "{\"keys\":[1]}");
        let (first, then) = (AgentShape::InCluster, AgentShape::Beside);
        tx.clusters().put_trust(&dev, issuer, "{\"keys\":[]}", first, now()).await.unwrap();
        assert_eq!(tx.clusters().trust(&dev).await.unwrap().unwrap().shape, first);
        tx.clusters().put_trust(&dev, issuer, keys, then, later(1)).await.unwrap();
        let trust = tx.clusters().trust(&dev).await.unwrap().unwrap();
        assert_eq!((trust.jwks.as_str(), trust.registered_at), ("{\"keys\":[1]}", now()));
        assert_eq!((trust.changed_at, trust.shape), (later(1), then));
        assert_eq!(tx.clusters().all_trust().await.unwrap(), [trust]);
        tx.clusters().delete_trust(&dev).await.unwrap();
        assert_eq!(tx.clusters().trust(&dev).await.unwrap(), None);
    }
}

#[tokio::test]
async fn keys_are_opaque_and_counters_never_go_back() {
    for (store, _directory) in both().await {
        let mut tx = store.begin().await.unwrap();
        let (first, second) = (Sealed::new(vec![0, 255, 1]), Sealed::new(vec![2]));
        let kept = tx.keys().put_if_absent("root", first.clone(), now()).await.unwrap();
        assert_eq!(kept, first);
        assert_eq!(tx.keys().put_if_absent("root", second.clone(), now()).await.unwrap(), first);
        tx.keys().put("root", &second, later(1)).await.unwrap();
        assert_eq!(tx.keys().find("root").await.unwrap(), Some(second.clone()));
        assert_eq!(format!("{second:?}"), "Sealed(1 bytes)");
        tx.keys().put("offline", &first, now()).await.unwrap();
        assert_eq!(tx.keys().names().await.unwrap(), ["offline", "root"]);
        tx.keys().delete("root").await.unwrap();
        assert_eq!(tx.keys().find("root").await.unwrap(), None);

        assert_eq!(tx.keys().counter("command/dev").await.unwrap(), 0);
        assert_eq!(tx.keys().take("command/dev", 1).await.unwrap(), 1);
        assert_eq!(tx.keys().take("command/dev", 10).await.unwrap(), 2);
        assert_eq!(tx.keys().take("command/dev", 1).await.unwrap(), 12);
        assert_eq!(tx.keys().counter("command/dev").await.unwrap(), 12);
        assert_eq!(tx.keys().take("command/prod", 1).await.unwrap(), 1);
    }
}
