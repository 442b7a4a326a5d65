#![allow(clippy::unwrap_used, reason = "test")]

use std::sync::{
    LazyLock,
    atomic::{AtomicUsize, Ordering},
};

use nullius_model::{SpiffeId, TrustDomain, Ttl};
use nullius_pki::{
    PrivateKey,
    workload::{ClusterAuthority, PreparedAuthority, SvidRequest, TrustBundle, WorkloadRoot},
};
use nullius_tls::{WorkloadPeer, WorkloadTls};
use tokio::net::{TcpListener, TcpStream};

use super::*;

static ISSUES: LazyLock<(ClusterAuthority, TrustBundle)> = LazyLock::new(|| {
    let (domain, now): (TrustDomain, _) = ("dev.example".parse().unwrap(), Timestamp::now());
    let (root, life) = (WorkloadRoot::create(now).unwrap(), Ttl::from_secs(86_400));
    let prepared = PreparedAuthority::create(domain.clone()).unwrap();
    let signed = root.certify(&prepared.request().unwrap(), &domain, life, now).unwrap();
    let authority = prepared.admit(signed, root.certificate_der(), now).unwrap();
    let mut bundle = TrustBundle::new(domain);
    bundle.add_x509(authority.anchor_der().clone()).unwrap();
    (authority, bundle)
});

/// What `shop` has as identity, of one authority for all; it knows the bundle.
pub(crate) fn tls(account: &str) -> Arc<WorkloadTls> {
    Arc::new(with_bundles(account, [ISSUES.1.clone()]))
}

/// The same, where these are all bundles that it knows.
pub(crate) fn with_bundles(
    account: &str,
    bundles: impl IntoIterator<Item = TrustBundle>,
) -> WorkloadTls {
    let (key, life) = (PrivateKey::generate().unwrap(), Ttl::from_secs(3_600));
    let id = format!("spiffe://dev.example/ns/shop/sa/{account}").parse().unwrap();
    let csr = key.request().unwrap();
    let asked = SvidRequest { id: &id, dns_names: &[], csr: &csr, life };
    let svid = ISSUES.0.issue(&asked, Timestamp::now()).unwrap();
    WorkloadTls::new(svid.chain, key.to_der(), bundles).unwrap()
}

/// Who has proven to be `shop/front`, in a real handshake.
pub(crate) async fn front() -> WorkloadPeer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let acceptor = tls("orders").acceptor(&[]).unwrap();
    let orders: SpiffeId = "spiffe://dev.example/ns/shop/sa/orders".parse().unwrap();
    let connector = tls("front").connector([orders].into(), &[]).unwrap();
    let (accepted, connected) = tokio::join!(
        async { acceptor.accept(listener.accept().await.unwrap().0).await.unwrap() },
        async { connector.connect(TcpStream::connect(at).await.unwrap(), at.ip()).await.unwrap() },
    );
    drop(connected);
    accepted.1
}

/// How often somebody has looked at what has changed, and was judged.
#[derive(Default)]
pub(crate) struct Counts {
    looks: AtomicUsize,
    judged: AtomicUsize,
}

impl Counts {
    /// How often was judged, once so many have looked once more.
    pub(crate) async fn settle(&self, live: usize) -> usize {
        let all = self.looks.load(Ordering::Relaxed) + live;
        while self.looks.load(Ordering::Relaxed) < all {
            tokio::task::yield_now().await;
        }
        self.judged.load(Ordering::Relaxed)
    }
}

pub(crate) struct Counted<J>(pub(crate) J, pub(crate) &'static Counts);

impl<J: Judge> Judge for Counted<J> {
    fn is_as_before(&mut self, world: &Arc<World>) -> bool {
        self.1.looks.fetch_add(1, Ordering::Relaxed);
        self.0.is_as_before(world)
    }

    fn judge(&mut self, world: &Arc<World>) -> Result<Option<Timestamp>, Why> {
        self.1.judged.fetch_add(1, Ordering::Relaxed);
        self.0.judge(world)
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_last_a_while_is_cut_then_and_not_before() {
    let minute = Duration::from_secs(60);
    let begun = tokio::time::Instant::now();
    assert_eq!(at_most(minute, Why::Probe, pending()).await, Ended::Cut(Why::Probe));
    assert_eq!(begun.elapsed(), minute);
    let shorter = async {
        sleep(minute - Duration::from_secs(1)).await;
        Ended::Closed
    };
    assert_eq!(at_most(minute, Why::Probe, shorter).await, Ended::Closed);
}
