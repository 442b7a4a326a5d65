//! How `WorkloadIdentity` objects stand, in their own status: whoever leads says whether one can be read, and how many pods have it.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use nullius_kube::identity::{ObjectNews, StatusStore};
use nullius_model::Timestamp;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::service::Issuing;
use crate::condition::Condition;

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(2);
/// What is written in one round; the rest is for the next.
const WRITES: usize = 25;
/// What was written is there when the watch says so, or could not be written: it is not written again for so long.
const AGAIN: Duration = Duration::from_secs(30);
/// One write.
const PATIENCE: Duration = Duration::from_secs(5);
const LEADER: &str = "nullius-identity:leader";

/// Says how what is declared stands.
pub(super) struct Telling {
    pub(super) issuing: Arc<Issuing>,
    pub(super) store: StatusStore,
    /// Of machines.
    pub(super) machines: StatusStore,
    /// Whether this replica leads.
    pub(super) leads: watch::Receiver<bool>,
}

impl Telling {
    /// Looks again and again, for as long as the process lives.
    pub(super) async fn run(mut self) {
        let mut written: HashMap<Box<str>, (Value, Instant)> = HashMap::new();
        loop {
            tokio::time::sleep(ROUND).await;
            let leads = *self.leads.borrow_and_update();
            if !leads || !self.issuing.restless.swap(false, Ordering::AcqRel) {
                continue;
            }
            let now = Instant::now();
            written.retain(|_, (_, until)| now < *until);
            let mut left = WRITES;
            let now = Timestamp::now();
            let declared = self.issuing.declared().into_iter().map(|(news, standing)| {
                let status = status_of(&news, &standing, now);
                (&self.store, news, status)
            });
            let machines = self.issuing.machines().into_iter().map(|(news, standing)| {
                let status = status_of_machine(&news, &standing, now);
                (&self.machines, news, status)
            });
            for (store, news, status) in declared.chain(machines) {
                let Some(status) = status else { continue };
                // Until it is seen to stand there is another round.
                self.issuing.restless.store(true, Ordering::Release);
                if left == 0 || written.get(&news.uid).is_some_and(|(last, _)| *last == status) {
                    continue;
                }
                left -= 1;
                say(store, &news, &status).await;
                written.insert(news.uid.clone(), (status, Instant::now() + AGAIN));
            }
        }
    }
}

async fn say(store: &StatusStore, news: &ObjectNews, status: &Value) {
    let said = store.say(news, LEADER, Some(status));
    match tokio::time::timeout(PATIENCE, said).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "cannot say how an object stands, try again");
        }
        Err(_) => {
            tracing::warn!(name = %news.name, "cannot say in time how an object stands, try again");
        }
    }
}

/// What is to be said, where it does not stand already.
fn status_of(news: &ObjectNews, standing: &Result<usize, String>, now: Timestamp) -> Option<Value> {
    let accepted = accepted(standing.as_ref().err());
    let status = json!({
        "observedGeneration": news.generation,
        "pods": standing.as_ref().copied().unwrap_or_default(),
        "conditions": [accepted.write(&news.status, news.generation, now)],
    });
    (!news.says(&status)).then_some(status)
}

/// The same of a machine; who joined is said by whoever let it.
fn status_of_machine(
    news: &ObjectNews,
    standing: &Result<(), String>,
    now: Timestamp,
) -> Option<Value> {
    let status = json!({
        "observedGeneration": news.generation,
        "conditions": [accepted(standing.as_ref().err()).write(&news.status, news.generation, now)],
    });
    (!news.says(&status)).then_some(status)
}

fn accepted(faults: Option<&String>) -> Condition<'_> {
    match faults {
        None => Condition::new("Accepted", "True", "Accepted", "it can be read"),
        Some(faults) => Condition::new("Accepted", "False", "Refused", faults),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn news(status: Value) -> ObjectNews {
        ObjectNews {
            namespace: "shop".into(),
            name: "orders".into(),
            uid: "u-1".into(),
            generation: 3,
            json: Arc::new(*b"{}"),
            status: Arc::new(status),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn what_stands_is_not_said_again_and_since_when_stays() {
        let first = status_of(&news(Value::Null), &Ok(2), at(0)).unwrap();
        assert_eq!(
            (&first["pods"], &first["conditions"][0]["status"]),
            (&json!(2), &json!("True"))
        );
        assert_eq!(status_of(&news(first.clone()), &Ok(2), at(60)), None);
        let more = status_of(&news(first.clone()), &Ok(3), at(60)).unwrap();
        assert_eq!(more["conditions"], first["conditions"]);
        let refused =
            status_of(&news(first.clone()), &Err("spec.path: no".to_owned()), at(60)).unwrap();
        assert_eq!(
            (&refused["pods"], &refused["conditions"][0]["message"]),
            (&json!(0), &json!("spec.path: no"))
        );
        assert_ne!(
            refused["conditions"][0]["lastTransitionTime"],
            first["conditions"][0]["lastTransitionTime"]
        );
    }
}
