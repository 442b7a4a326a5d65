//! How many events a second become durable; printed, not judged: `cargo test -p nullius-store speed -- --nocapture`.

use std::time::Instant;

use crate::{check, event, on_file, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_per_second() {
    let directory = tempfile::tempdir().unwrap();
    let store = on_file(directory.path()).await;
    let writer = start(&store).await;
    let (tasks, each) = (64, 250);
    for (what, acknowledged) in [("enqueued", false), ("acknowledged one by one", true)] {
        let began = Instant::now();
        let running: Vec<_> = (0..tasks)
            .map(|task| {
                let writer = writer.clone();
                tokio::spawn(async move {
                    for number in 0..each {
                        let slot = writer.reserve().await.unwrap();
                        let event = event(task * each + number);
                        if acknowledged {
                            slot.write(&event).await.unwrap();
                        } else {
                            slot.enqueue(&event).unwrap();
                        }
                    }
                })
            })
            .collect();
        for task in running {
            task.await.unwrap();
        }
        let last = writer.write(&event(0)).await.unwrap();
        let rate = (tasks * each) as f64 / began.elapsed().as_secs_f64();
        println!("{what}: {rate:.0} events/s, {tasks} tasks, {last} entries");
    }
    let began = Instant::now();
    let report = store.verify_audit(&check, &[]).await.unwrap();
    assert!(report.is_intact());
    let rate = report.records as f64 / began.elapsed().as_secs_f64();
    println!("verified: {rate:.0} entries/s");
}
