#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use std::{io, pin::Pin, sync::Mutex};

use futures::Stream;
use nullius_proto::agent_v1::{
    AdmissionUse,
    reporting_server::{Reporting, ReportingServer},
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tonic::{Request, Response};

use super::*;

/// A hub that receipts a batch for each permit it was given.
#[derive(Clone)]
struct Hub {
    batches: Arc<Mutex<Vec<ReportBatch>>>,
    came: mpsc::UnboundedSender<()>,
    permits: Arc<Semaphore>,
    dials: mpsc::UnboundedSender<()>,
    /// Whether it can be reached.
    up: watch::Sender<bool>,
}

/// What a test hears of a hub.
struct Ears {
    came: mpsc::UnboundedReceiver<()>,
    dials: mpsc::UnboundedReceiver<()>,
}

type Receipts = Pin<Box<dyn Stream<Item = Result<ReportReceipt, Status>> + Send>>;

#[tonic::async_trait]
impl Reporting for Hub {
    type ReportStream = Receipts;

    async fn report(
        &self,
        request: Request<Streaming<Report>>,
    ) -> Result<Response<Receipts>, Status> {
        let mut reports = request.into_inner();
        let (receipts, outgoing) = mpsc::channel(1);
        let hub = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(report)) = reports.message().await {
                let Some(Kind::Batch(batch)) = report.kind else { continue };
                let number = batch.number;
                hub.batches.lock().unwrap().push(batch);
                hub.came.send(()).unwrap();
                hub.permits.acquire().await.unwrap().forget();
                if receipts.send(Ok(ReportReceipt { number })).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

impl Hub {
    fn new() -> (Self, Ears) {
        let (came, all) = mpsc::unbounded_channel();
        let (dialled, dials) = mpsc::unbounded_channel();
        let hub = Self {
            batches: Arc::default(),
            came,
            permits: Arc::new(Semaphore::new(0)),
            dials: dialled,
            up: watch::Sender::new(true),
        };
        (hub, Ears { came: all, dials })
    }

    fn way(&self) -> Way {
        let hub = self.clone();
        let dialling = move |_: &Address| -> Connecting {
            let hub = hub.clone();
            Box::pin(async move {
                hub.dials.send(()).unwrap();
                if !*hub.up.borrow() {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                let (here, there) = tokio::io::duplex(1 << 16);
                let incoming = tokio_stream::once(Ok::<_, io::Error>(there));
                let server = tonic::transport::Server::builder()
                    .add_service(ReportingServer::new(hub))
                    .serve_with_incoming(incoming);
                tokio::spawn(server);
                Ok(Box::new(here) as BoxIo)
            })
        };
        Way {
            addresses: vec!["hub:1".parse().unwrap()],
            renewed: watch::channel(1).1,
            dialling: Arc::new(dialling),
        }
    }

    fn tell(&self, waiting: Waiting, stop: &CancellationToken) -> JoinHandle<()> {
        let link = waiting.link(self.way(), stop.clone());
        tokio::spawn(async move { link.run().await.unwrap() })
    }

    /// How often each user's use was told, in batches of different numbers.
    fn uses(&self) -> Vec<(String, u64)> {
        let batches = self.batches.lock().unwrap();
        let mut numbers = std::collections::HashSet::new();
        let first = batches.iter().filter(|batch| numbers.insert(batch.number));
        let uses = first.flat_map(|batch| &batch.uses);
        uses.map(|AdmissionUse { username, count, .. }| (username.clone(), *count)).collect()
    }
}

fn used(username: &str) -> UsedPolicy<'_> {
    UsedPolicy {
        username,
        operation: "CREATE",
        group: "",
        resource: "pods",
        subresource: "",
        namespace: "shop",
        allowed: true,
        permission: "",
    }
}

fn decision() -> AdmissionDecision {
    AdmissionDecision { uid: "review".to_owned(), ..Default::default() }
}

#[tokio::test]
async fn an_end_while_a_receipt_is_awaited_tells_the_rest_after_it() {
    let (hub, mut ears) = Hub::new();
    let (reports, waiting) = open();
    let stop = CancellationToken::new();
    let told = hub.tell(waiting, &stop);
    reports.decided(decision());
    ears.came.recv().await.unwrap();
    reports.used(&used("ada"), 1, "s");
    stop.cancel();
    // The first receipt comes after the stop.
    hub.permits.add_permits(10);
    told.await.unwrap();
    assert_eq!(hub.uses(), [("ada".to_owned(), 1)]);
    assert_eq!(hub.batches.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn an_end_between_two_tries_to_reach_the_hub_tries_at_once_and_again() {
    let (hub, mut ears) = Hub::new();
    hub.up.send_replace(false);
    hub.permits.add_permits(10);
    let (reports, waiting) = open();
    let stop = CancellationToken::new();
    let told = hub.tell(waiting, &stop);
    reports.used(&used("ada"), 1, "s");
    ears.dials.recv().await.unwrap();
    stop.cancel();
    ears.dials.recv().await.unwrap();
    hub.up.send_replace(true);
    told.await.unwrap();
    assert_eq!(hub.uses(), [("ada".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_is_away_holds_the_end_up_for_a_moment_only() {
    let (hub, mut ears) = Hub::new();
    hub.up.send_replace(false);
    let (_reports, waiting) = open();
    let stop = CancellationToken::new();
    let told = hub.tell(waiting, &stop);
    ears.dials.recv().await.unwrap();
    let began = Instant::now();
    stop.cancel();
    told.await.unwrap();
    assert_eq!(began.elapsed(), FAREWELL);
}
