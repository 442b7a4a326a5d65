#![allow(clippy::unwrap_used, reason = "test")]

use std::sync::Arc;

use nullius_model::{MeshParty, MeshSide, SystemClock};

use super::*;
use crate::Store;

fn calls(namespace: &str, hour: i64) -> Calls {
    let party = |namespace: &str| MeshParty {
        kind: PartyKind::Workload,
        namespace: namespace.into(),
        owner_kind: "Deployment".into(),
        owner_name: "web".into(),
        spiffe_id: format!("spiffe://dev/ns/{namespace}/sa/web"),
    };
    let at = Timestamp::from_second(hour * HOUR + 60).unwrap();
    Calls {
        key: CallKey {
            source: party(namespace),
            destination: party("bank"),
            side: MeshSide::Destination,
            service: String::new(),
            port: 80,
            protocol: String::new(),
            wire: "hbone".into(),
            verdict: MeshVerdict::Allowed,
            reason: "intention-matched".into(),
            rule: String::new(),
            permission: None,
            shadow: None,
        },
        connections: 1,
        requests: 0,
        bytes_to_destination: 0,
        bytes_to_source: 0,
        first: at,
        last: at,
        sample: format!("sample-{hour}"),
    }
}

#[tokio::test]
async fn what_is_known_counts_on_where_there_is_no_room_for_more_hours() {
    let store = Store::open_in_memory(Arc::new(SystemClock)).await.unwrap();
    let cluster: ClusterName = "dev".parse().unwrap();
    let merge = async |calls: &[Calls]| {
        let mut tx = store.begin().await.unwrap();
        let folded = tx.mesh().merge_within(&cluster, calls, 20).await.unwrap();
        tx.commit().await.unwrap();
        folded
    };
    let evil: Vec<_> = (1_000..1_100).map(|hour| calls("evil", hour)).collect();
    assert_eq!(merge(&evil).await, 0, "nothing is folded");
    let shop: Vec<_> = (1_000..1_003).map(|hour| calls("shop", hour)).collect();
    assert_eq!(merge(&shop).await, 0);
    assert_eq!(merge(&[calls("evil", 1_200), calls("evil", 1_201)]).await, 0);
    let list = async |namespace: &str, since: i64| {
        let filter = CallFilter {
            cluster: cluster.clone(),
            namespace: Some(namespace.to_owned()),
            namespaces: None,
            verdict: None,
            since: Timestamp::from_second(since * HOUR).ok(),
            limit: 100,
        };
        let mut reader = store.read().await.unwrap();
        let (calls, from) = reader.mesh().list(&filter).await.unwrap();
        (calls.iter().map(|it| it.connections).collect::<Vec<_>>(), from)
    };
    assert_eq!(list("evil", 0).await.0, [102]);
    let (counts, from) = list("evil", 1_201).await;
    assert_eq!(counts, [93], "from its last row on");
    assert_eq!(from, Timestamp::from_second(1_009 * HOUR).ok(), "and it says since when");
    assert_eq!(list("shop", 1_001).await.0, [2], "who has room has each hour by itself");
}
