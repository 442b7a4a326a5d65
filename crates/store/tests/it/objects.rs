//! Objects: versions, generations, conflicts, changes, and their audit in the same commit.

use nullius_audit::Filter;
use nullius_model::{
    AnyObject, GroupSpec, Kind, Object, ObjectMeta, Timestamp, UserSpec, UserStatus,
};
use nullius_store::{Precondition, StoreError, StoredChange};

use crate::{both, event, later, now, start};

fn ada() -> AnyObject {
    Object::<UserSpec, UserStatus> {
        metadata: ObjectMeta::named("ada".parse().unwrap()),
        spec: UserSpec { display_name: Some("Ada".into()), ..UserSpec::default() },
        status: None,
    }
    .into()
}

fn group(name: &str) -> AnyObject {
    Object::<GroupSpec> {
        metadata: ObjectMeta::named(name.parse().unwrap()),
        spec: GroupSpec::default(),
        status: None,
    }
    .into()
}

fn rename(object: &AnyObject, name: &str) -> AnyObject {
    let AnyObject::User(mut user) = object.clone() else { panic!("no user") };
    user.spec.display_name = Some(name.into());
    user.into()
}

fn with_sign_in(object: &AnyObject, at: Timestamp) -> AnyObject {
    let AnyObject::User(mut user) = object.clone() else { panic!("no user") };
    user.status = Some(UserStatus { enrolled: true, last_sign_in: Some(at) });
    user.into()
}

#[tokio::test]
async fn an_object_keeps_its_uid_and_counts_its_changes() {
    for (store, _directory) in both().await {
        let mut tx = store.begin().await.unwrap();
        let mut input = ada();
        input.metadata_mut().labels.insert("team".into(), "shop".into());
        let created = tx.objects().create(&with_sign_in(&input, now()), now()).await.unwrap();
        let metadata = created.metadata().clone();
        assert_eq!(metadata.generation, Some(1));
        assert_eq!(metadata.creation_timestamp, Some(now()));
        assert_eq!(metadata.labels["team"], "shop");
        assert_eq!(metadata.uid.as_ref().unwrap().len(), 36);
        assert!(
            matches!(&created, AnyObject::User(user) if user.status.is_none()),
            "status is ours"
        );

        let same = tx.objects().update(&created).await.unwrap();
        assert_eq!(same, created, "an update that changes nothing is not written");

        let changed = tx.objects().update(&rename(&created, "Ada L.")).await.unwrap();
        assert_eq!(changed.metadata().generation, Some(2));
        assert_ne!(changed.metadata().resource_version, metadata.resource_version);
        assert_eq!(changed.metadata().uid, metadata.uid);

        let mut labelled = changed.clone();
        labelled.metadata_mut().labels.clear();
        let labelled = tx.objects().update(&labelled).await.unwrap();
        assert_eq!(labelled.metadata().generation, Some(2), "labels are no spec");

        let status = tx.objects().set_status(&with_sign_in(&labelled, later(1))).await.unwrap();
        assert_eq!(status.metadata().generation, Some(2), "a status is no spec");
        let updated = tx.objects().update(&rename(&status, "Ada")).await.unwrap();
        let AnyObject::User(user) = &updated else { panic!("no user") };
        assert_eq!(
            user.status.as_ref().unwrap().last_sign_in,
            Some(later(1)),
            "an update keeps it"
        );
        tx.commit().await.unwrap();

        let mut reader = store.read().await.unwrap();
        assert_eq!(reader.objects().get(Kind::User, "ada").await.unwrap(), updated);
        assert_eq!(
            reader.objects().list(Kind::User).await.unwrap(),
            std::slice::from_ref(&updated)
        );
        let (revision, all) = reader.objects().load_all().await.unwrap();
        assert_eq!(all, std::slice::from_ref(&updated));
        assert_eq!(updated.metadata().resource_version, Some(revision.to_string()));
    }
}

#[tokio::test]
async fn the_slower_of_two_changes_is_refused_by_name() {
    for (store, _directory) in both().await {
        let mut tx = store.begin().await.unwrap();
        let created = tx.objects().create(&ada(), now()).await.unwrap();
        tx.objects().update(&rename(&created, "first")).await.unwrap();
        let error = tx.objects().update(&rename(&created, "second")).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { field: "resourceVersion", .. }));
        assert_eq!(
            error.to_string(),
            "User `ada` was changed by somebody else: its resourceVersion is `2`, not `1`; \
             read it again and repeat the change"
        );
        let mut blind = rename(&created, "third");
        blind.metadata_mut().resource_version = None;
        blind.metadata_mut().uid = Some("other".into());
        let error = tx.objects().update(&blind).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { field: "uid", .. }));

        let error = tx.objects().create(&ada(), now()).await.unwrap_err();
        assert!(matches!(error, StoreError::Exists { kind: Kind::User, .. }), "{error}");
        let error = tx.objects().update(&group("none")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "Group `none` does not exist; `nullius get groups` lists what does"
        );
        let stale = Precondition { resource_version: Some("1".into()), uid: None };
        let error = tx.objects().delete(Kind::User, "ada", &stale, now()).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict { .. }), "{error}");
        let any = Precondition::default();
        tx.objects().delete(Kind::User, "ada", &any, now()).await.unwrap();
        let error = tx.objects().delete(Kind::User, "ada", &any, now()).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound { .. }), "{error}");
    }
}

#[tokio::test]
async fn followers_see_the_newest_state_and_deletions_in_order() {
    for (store, _directory) in both().await {
        let mut tx = store.begin().await.unwrap();
        let first = tx.objects().create(&group("one"), now()).await.unwrap();
        tx.objects().create(&group("two"), now()).await.unwrap();
        tx.objects().delete(Kind::Group, "one", &Precondition::of(&first), now()).await.unwrap();
        let again = tx.objects().create(&group("one"), now()).await.unwrap();
        assert_ne!(again.metadata().uid, first.metadata().uid);
        tx.commit().await.unwrap();
        let mut reader = store.read().await.unwrap();
        let changes = reader.objects().changes_since(0).await.unwrap();
        let told: Vec<String> = changes
            .iter()
            .map(|change| match change {
                StoredChange::Put { revision, object } => format!("{revision} + {}", object.name()),
                StoredChange::Deleted { revision, kind, name, .. } => {
                    format!("{revision} - {kind} {name}")
                }
            })
            .collect();
        assert_eq!(told, ["2 + two", "3 - Group one", "4 + one"]);
        assert_eq!(reader.objects().changes_since(4).await.unwrap(), []);
        assert_eq!(reader.objects().revision().await.unwrap(), 4);
    }
}

#[tokio::test]
async fn a_change_and_its_event_are_durable_together_or_not_at_all() {
    for (store, _directory) in both().await {
        let mut early = store.begin().await.unwrap();
        early.objects().create(&group("early"), now()).await.unwrap();
        early.audit(&event(0)).unwrap();
        let error = early.commit().await.unwrap_err();
        assert!(matches!(error, StoreError::Audit(_)), "no audit, no change: {error}");

        let writer = start(&store).await;
        let mut tx = store.begin().await.unwrap();
        tx.objects().create(&group("kept"), now()).await.unwrap();
        tx.audit(&event(1)).unwrap();
        tx.audit(&event(2)).unwrap();
        let position = tx.commit().await.unwrap().audit.unwrap();
        assert_eq!(position.0, 2);

        let mut undone = store.begin().await.unwrap();
        undone.objects().create(&group("undone"), now()).await.unwrap();
        undone.audit(&event(3)).unwrap();
        undone.rollback().await.unwrap();
        let mut dropped = store.begin().await.unwrap();
        dropped.objects().create(&group("dropped"), now()).await.unwrap();
        dropped.audit(&event(4)).unwrap();
        drop(dropped);

        assert_eq!(writer.write(&event(5)).await.unwrap().0, 3);
        let mut reader = store.read().await.unwrap();
        let groups = reader.objects().list(Kind::Group).await.unwrap();
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].name().as_str(), "kept");
        let page = reader.audit().list(&Filter::default(), None).await.unwrap();
        let ids: Vec<String> =
            page.entries.iter().map(|entry| entry.event().unwrap().audit_id.to_string()).collect();
        assert_eq!(ids, ["event-5", "event-2", "event-1"]);
        drop(reader);
        assert!(store.verify_audit(&crate::check, &[]).await.unwrap().is_intact());
    }
}
