//! Uses add up exactly, whatever the order in which they come.

use nullius_model::{PermissionId, Plane, Use, UseKey};
use nullius_store::{Usage, UseFilter};

use crate::{both, later};

fn a_use(principal: &str, permission: Option<u128>, first: i64, last: i64, count: u64) -> Use {
    Use {
        key: UseKey {
            plane: Plane::Access,
            principal: principal.into(),
            cluster: "dev".into(),
            action: "get".into(),
            resource: "/pods@shop".into(),
            allowed: permission.is_some(),
            permission: permission.map(PermissionId::from_bits),
        },
        first: later(first),
        last: later(last),
        count,
        sample: format!("sample-{last}").parse().unwrap(),
    }
}

#[tokio::test]
async fn uses_of_one_key_become_one_row() {
    for (store, _directory) in both().await {
        let mut tx = store.begin().await.unwrap();
        tx.usage()
            .merge(&[
                a_use("person:ada", Some(1), 10, 20, 3),
                a_use("person:ada", Some(1), 5, 15, 4),
                a_use("person:ada", Some(2), 5, 15, 1),
                a_use("person:eve", None, 1, 2, 7),
                a_use("person:eve", None, 3, 4, 1),
            ])
            .await
            .unwrap();
        tx.usage().merge(&[a_use("person:ada", Some(1), 30, 40, 1)]).await.unwrap();
        tx.commit().await.unwrap();
        let mut reader = store.read().await.unwrap();
        let all = reader.usage().list(&UseFilter::default()).await.unwrap();
        assert_eq!(
            all,
            [
                a_use("person:ada", Some(1), 5, 40, 8),
                a_use("person:ada", Some(2), 5, 15, 1),
                a_use("person:eve", None, 1, 4, 8),
            ]
        );
        let narrowed = [
            (UseFilter { principal: Some("person:eve".into()), ..UseFilter::default() }, 1),
            (UseFilter { cluster: Some("prod".into()), ..UseFilter::default() }, 0),
            (UseFilter { permission: Some(PermissionId::from_bits(2)), ..UseFilter::default() }, 1),
            (UseFilter { allowed: Some(true), ..UseFilter::default() }, 2),
            (UseFilter { since: Some(later(15)), ..UseFilter::default() }, 2),
            (UseFilter { limit: Some(1), ..UseFilter::default() }, 1),
        ];
        for (filter, count) in narrowed {
            assert_eq!(reader.usage().list(&filter).await.unwrap().len(), count, "{filter:?}");
        }
        drop(reader);
        let mut tx = store.begin().await.unwrap();
        assert_eq!(tx.usage().prune(later(15)).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn nobody_fills_the_store_by_asking() {
    for (store, _directory) in both().await {
        let made_up = |number: u64| {
            let mut used = a_use("person:eve", None, 1, 2, 1);
            used.key.resource = format!("/made-up/{number}");
            used
        };
        let asked: Vec<Use> = (0..Usage::ROWS_OF_PRINCIPAL + 50).map(made_up).collect();
        let mut tx = store.begin().await.unwrap();
        tx.usage().merge(&asked).await.unwrap();
        // Again: what has a row keeps it, and nobody else pays for it.
        tx.usage().merge(&asked[..10]).await.unwrap();
        tx.usage()
            .merge(&[made_up(u64::MAX), a_use("person:ada", Some(1), 1, 2, 1)])
            .await
            .unwrap();
        tx.commit().await.unwrap();
        let of = |name: &str| UseFilter {
            principal: Some(name.into()),
            limit: Some(1_000_000),
            ..UseFilter::default()
        };
        let mut reader = store.read().await.unwrap();
        let all = reader.usage().list(&of("person:eve")).await.unwrap();
        assert_eq!(all.len() as u64, Usage::ROWS_OF_PRINCIPAL + 1);
        let folded = all.iter().find(|used| used.key.cluster == UseKey::FOLDED).unwrap();
        assert_eq!(folded.count, 51);
        assert_eq!(all.iter().map(|used| used.count).sum::<u64>(), asked.len() as u64 + 11);
        let ada = reader.usage().list(&of("person:ada")).await.unwrap();
        assert_eq!(ada, [a_use("person:ada", Some(1), 1, 2, 1)]);
    }
}
