//! What is held for entries, on a clock of the test.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use nullius_model::{Clock, Timestamp, Ttl};
use nullius_workload::{Entry, Holdings, IssueError, Issuer, Registered, keep};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::world::{Authority, DOMAIN, entry, registered};

/// A clock that goes with the paused time of the runtime, and can be set.
struct Paused {
    began: Instant,
    at: Mutex<Timestamp>,
}

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        *self.at.lock().unwrap() + self.began.elapsed()
    }
}

fn paused() -> Arc<Paused> {
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    Arc::new(Paused { began: Instant::now(), at: Mutex::new(at) })
}

type Told = watch::Receiver<Option<Arc<Holdings>>>;

struct World {
    clock: Arc<Paused>,
    authority: Arc<Authority>,
    registered: watch::Sender<Option<Arc<Registered>>>,
    told: Told,
}

impl World {
    fn start(entries: Vec<Entry>) -> Self {
        let clock = paused();
        let authority = Authority::create(DOMAIN, clock.clone());
        let issuer = authority.issuer();
        let first = registered(&authority, entries);
        Self::start_with(clock, authority, issuer, first)
    }

    fn start_with(
        clock: Arc<Paused>,
        authority: Arc<Authority>,
        issuer: Issuer,
        first: Registered,
    ) -> Self {
        let (registered, watched) = watch::channel(Some(Arc::new(first)));
        let (told, keeper) = keep(watched, issuer, clock.clone());
        tokio::spawn(keeper);
        Self { clock, authority, registered, told }
    }

    /// The end of the SVID of the first entry, once something holds of it.
    async fn held(&mut self, wanted: impl Fn(Option<Timestamp>) -> bool) -> Option<Timestamp> {
        let first = |holdings: &Option<Arc<Holdings>>| {
            holdings.as_ref()?.held.values().next().map(|held| held.svid.not_after)
        };
        let told = self.told.wait_for(|holdings| holdings.is_some() && wanted(first(holdings)));
        first(&told.await.unwrap())
    }

    fn register(&self, change: impl FnOnce(&mut Registered)) {
        let mut next = (**self.registered.borrow().as_ref().unwrap()).clone();
        change(&mut next);
        self.registered.send_replace(Some(Arc::new(next)));
    }
}

fn hour(path: &str) -> Entry {
    entry(path, &["unix:uid:1"])
}

#[tokio::test(start_paused = true)]
async fn an_svid_is_renewed_at_half_of_its_life() {
    let mut world = World::start(vec![hour("/a")]);
    let first = world.held(|end| end.is_some()).await.unwrap();
    let began = world.clock.now();
    assert_eq!(first, Ttl::from_secs(3_600).after(began));
    let second = world.held(|end| end.is_some_and(|end| end != first)).await.unwrap();
    let after = world.clock.now().duration_since(began).as_secs();
    assert!((1_620..=1_981).contains(&after), "after {after} s");
    assert!(second > first);
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_away_is_asked_until_the_end_and_what_ends_is_dropped() {
    let mut world = World::start(vec![hour("/a")]);
    let first = world.held(|end| end.is_some()).await.unwrap();
    *world.authority.is_away.lock().unwrap() = true;
    assert_eq!(world.held(|end| end.is_none()).await, None);
    let late = world.clock.now().duration_since(first).as_secs();
    assert!((0..=1).contains(&late), "dropped {late} s after its end");
    *world.authority.is_away.lock().unwrap() = false;
    let back = world.clock.now();
    world.held(|end| end.is_some()).await;
    let waited = world.clock.now().duration_since(back).as_secs();
    assert!(waited <= 31, "asked again after {waited} s");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_is_noticed() {
    let mut world = World::start(vec![hour("/a")]);
    let first = world.held(|end| end.is_some()).await.unwrap();
    let before = Instant::now();
    *world.clock.at.lock().unwrap() += Duration::from_secs(7_200);
    world.held(|end| end.is_some_and(|end| end > first)).await;
    assert!(before.elapsed() <= Duration::from_secs(32), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_registered_decides_what_is_held() {
    let mut world = World::start(vec![hour("/a")]);
    let first = world.held(|end| end.is_some()).await;
    // Who may have it does not change the certificate.
    let mut other = entry("/a", &["unix:uid:2"]);
    world.register(|next| drop(next.entries.insert("000".into(), Arc::new(other.clone()))));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.held(|_| true).await, first);
    assert_eq!(*world.authority.issued.lock().unwrap(), 1);
    // Another life does.
    other.ttl = Ttl::from_secs(1_800);
    world.register(|next| drop(next.entries.insert("000".into(), Arc::new(other.clone()))));
    world.held(|end| end != first).await;
    // Another ID takes the old one away at once.
    *world.authority.is_away.lock().unwrap() = true;
    let renamed = Entry { spiffe_id: hour("/b").spiffe_id, ..other };
    world.register(|next| drop(next.entries.insert("000".into(), Arc::new(renamed))));
    assert_eq!(world.held(|end| end.is_none()).await, None);
    world.register(|next| next.entries.clear());
    world.told.changed().await.unwrap();
    assert!(world.told.borrow().as_ref().unwrap().registered.entries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_nobody_stands_behind_takes_its_svids_with_it() {
    let mut world = World::start(vec![hour("/a")]);
    let first = world.held(|end| end.is_some()).await;
    let successor = Authority::create(DOMAIN, world.clock.clone());
    // Published beside it, nothing changes.
    let mut both = (*world.authority.bundle()).clone();
    both.add_x509(successor.bundle().x509_authorities()[0].clone()).unwrap();
    let domain = both.trust_domain().clone();
    world.register(|next| drop(next.bundles.insert(domain.clone(), Arc::new(both))));
    world.told.changed().await.unwrap();
    assert_eq!(world.held(|_| true).await, first);
    // Revoked, what it signed is handed out no more, and what it signs now is not taken.
    world.register(|next| drop(next.bundles.insert(domain, successor.bundle())));
    assert_eq!(world.held(|end| end.is_none()).await, None);
    let refused = timeout(Duration::from_secs(600), world.held(|end| end.is_some())).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_for_the_question_is_not_held() {
    let clock = paused();
    let authority = Authority::create(DOMAIN, clock.clone());
    let real = Arc::clone(&authority);
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    // It signs for a key of its own, or for another ID.
    let issuer = Issuer::new(
        move |_, entry, csr| {
            let (real, count) = (Arc::clone(&real), Arc::clone(&count));
            async move {
                let number = {
                    let mut count = count.lock().unwrap();
                    *count += 1;
                    *count
                };
                let own = nullius_pki::PrivateKey::generate().unwrap().request().unwrap();
                let (entry, csr) = match number % 2 {
                    0 => (entry, own),
                    _ => (Arc::new(hour("/other")), csr),
                };
                real.sign(&entry, &csr)
            }
        },
        |_, _, _| async { Err(IssueError::Refused("no tokens here".to_owned())) },
    );
    let first = registered(&authority, vec![hour("/a")]);
    let mut world = World::start_with(clock, authority, issuer, first);
    let held = timeout(Duration::from_secs(600), world.held(|end| end.is_some())).await;
    assert!(held.is_err(), "{held:?}");
    assert!(*asked.lock().unwrap() > 10, "it was asked again");
}
