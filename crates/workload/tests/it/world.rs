//! A node with a real authority, and workloads as processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
};

use nullius_model::{Clock, SystemClock, Timestamp, TrustDomain, Ttl};
use nullius_pki::{
    Csr,
    workload::{
        ClusterAuthority, JwtSigner, PreparedAuthority, SvidRequest, TrustBundle, WorkloadRoot,
        X509Svid,
    },
};
use nullius_workload::{
    Attestor, CgroupRoot, Client, Endpoint, Entry, Holdings, IssueError, Issuer, JwtIssued, Limits,
    Registered, bind, keep, serve,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::watch,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub(crate) const DOMAIN: &str = "shop.example.org";
pub(crate) const OTHER: &str = "bank.example.org";

/// What signs: a cluster's authority under a root, and a key for tokens.
pub(crate) struct Authority {
    x509: ClusterAuthority,
    jwt: JwtSigner,
    clock: Arc<dyn Clock>,
    /// Requests that were answered.
    pub(crate) issued: Mutex<u32>,
    /// Whether it answers.
    pub(crate) is_away: Mutex<bool>,
}

impl Authority {
    pub(crate) fn create(name: &str, clock: Arc<dyn Clock>) -> Arc<Self> {
        let (domain, now): (TrustDomain, _) = (name.parse().unwrap(), clock.now());
        let root = WorkloadRoot::create(now).unwrap();
        let prepared = PreparedAuthority::create(domain.clone()).unwrap();
        let week = Ttl::from_secs(7 * 86_400);
        let signed = root.certify(&prepared.request().unwrap(), &domain, week, now).unwrap();
        let x509 = prepared.admit(signed, root.certificate_der(), now).unwrap();
        let jwt = JwtSigner::create(domain).unwrap();
        Arc::new(Self { x509, jwt, clock, issued: Mutex::default(), is_away: Mutex::default() })
    }

    pub(crate) fn bundle(&self) -> Arc<TrustBundle> {
        let mut bundle = TrustBundle::new(self.x509.trust_domain().clone());
        bundle.add_x509(self.x509.anchor_der().clone()).unwrap();
        bundle.add_jwt(self.jwt.authority());
        Arc::new(bundle)
    }

    pub(crate) fn sign(&self, entry: &Entry, csr: &Csr) -> Result<X509Svid, IssueError> {
        *self.issued.lock().unwrap() += 1;
        let (id, dns_names, life) = (&entry.spiffe_id, entry.dns_names.as_slice(), entry.ttl);
        let asked = SvidRequest { id, dns_names, csr, life };
        let refused = |error: nullius_pki::RootError| IssueError::Refused(error.to_string());
        self.x509.issue(&asked, self.clock.now()).map_err(refused)
    }

    pub(crate) fn issuer(self: &Arc<Self>) -> Issuer {
        let (one, two) = (Arc::clone(self), Arc::clone(self));
        Issuer::new(
            move |_, entry, csr| {
                let authority = Arc::clone(&one);
                async move {
                    if *authority.is_away.lock().unwrap() {
                        return Err(IssueError::Unavailable("away".to_owned()));
                    }
                    authority.sign(&entry, &csr)
                }
            },
            move |_, entry, audience| {
                let authority = Arc::clone(&two);
                async move {
                    let audience: Vec<&str> = audience.iter().map(String::as_str).collect();
                    let now = authority.clock.now();
                    let token = authority
                        .jwt
                        .sign(&entry.spiffe_id, &audience, entry.jwt_ttl, now)
                        .map_err(|error| IssueError::Refused(error.to_string()))?;
                    *authority.issued.lock().unwrap() += 1;
                    Ok(JwtIssued { token, expires_at: entry.jwt_ttl.after(now) })
                }
            },
        )
    }
}

pub(crate) fn entry(path: &str, selectors: &[&str]) -> Entry {
    Entry {
        spiffe_id: format!("spiffe://{DOMAIN}{path}").parse().unwrap(),
        selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
        ttl: Ttl::from_secs(3_600),
        jwt_ttl: Ttl::from_secs(300),
        dns_names: Vec::new(),
        hint: None,
        audiences: BTreeSet::new(),
        federates_with: BTreeSet::new(),
    }
}

/// Entries in this order.
pub(crate) fn registered(authority: &Authority, entries: Vec<Entry>) -> Registered {
    let entries = entries.into_iter().enumerate();
    let entries = entries.map(|(at, entry)| (format!("{at:03}").into(), Arc::new(entry)));
    let bundle = authority.bundle();
    Registered {
        trust_domain: bundle.trust_domain().clone(),
        entries: entries.collect(),
        bundles: BTreeMap::from([(bundle.trust_domain().clone(), bundle)]),
        reissue_before: None,
    }
}

/// A running node.
pub(crate) struct Node {
    pub(crate) authority: Arc<Authority>,
    pub(crate) registered: watch::Sender<Option<Arc<Registered>>>,
    pub(crate) holdings: watch::Receiver<Option<Arc<Holdings>>>,
    pub(crate) socket: PathBuf,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _folder: TempDir,
}

impl Node {
    pub(crate) fn start(entries: Vec<Entry>) -> Self {
        let authority = Authority::create(DOMAIN, Arc::new(SystemClock));
        let first = registered(&authority, entries);
        Self::start_with(authority, Some(first), Limits::default(), CgroupRoot::default())
    }

    pub(crate) fn start_with(
        authority: Arc<Authority>,
        first: Option<Registered>,
        limits: Limits,
        root: CgroupRoot,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("workload.sock");
        let listener = bind(&socket).unwrap();
        let (registered, watched) = watch::channel(first.map(Arc::new));
        let (holdings, keeper) = keep(watched, authority.issuer(), Arc::new(SystemClock));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper);
        tasks.spawn(serve(
            listener,
            Attestor::new(root),
            holdings.clone(),
            authority.issuer(),
            Arc::new(SystemClock),
            limits,
            stop.clone(),
        ));
        Self { authority, registered, holdings, socket, stop, tasks, _folder: folder }
    }

    pub(crate) fn register(&self, registered: Registered) {
        self.registered.send_replace(Some(Arc::new(registered)));
    }

    /// Has every SVID renewed, and waits until it was.
    pub(crate) async fn rotate(&mut self) {
        let current = self.registered.borrow().clone().unwrap();
        let before = self.holdings.borrow_and_update().clone().unwrap();
        self.register(Registered { reissue_before: Some(Timestamp::now()), ..(*current).clone() });
        let renewed = |holdings: &Option<Arc<Holdings>>| {
            let holdings = holdings.as_ref().unwrap();
            holdings.held.len() == before.held.len()
                && holdings.held.iter().all(|(id, held)| !Arc::ptr_eq(held, &before.held[id]))
        };
        self.holdings.wait_for(renewed).await.unwrap();
    }

    pub(crate) async fn client(&self) -> Client {
        let endpoint: Endpoint = self.socket.to_str().unwrap().parse().unwrap();
        Client::connect(&endpoint).await.unwrap()
    }

    pub(crate) fn path(&self) -> &str {
        self.socket.to_str().unwrap()
    }

    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        // The keeper ends when nobody registers any more.
        drop(self.registered);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

/// The selector of this process's user.
pub(crate) fn own_user() -> String {
    format!("unix:uid:{}", rustix::process::geteuid().as_raw())
}

/// The program that plays workloads.
pub(crate) fn probe() -> PathBuf {
    let test = env::current_exe().unwrap();
    let built = test.parent().unwrap().parent().unwrap().join("examples/workload-probe");
    assert!(built.exists(), "cargo builds examples before tests: {}", built.display());
    built.canonicalize().unwrap()
}

/// A process of the tests, by what it says and is told.
pub(crate) struct Workload {
    pub(crate) child: Child,
    said: Lines<BufReader<ChildStdout>>,
    told: Option<ChildStdin>,
}

impl Workload {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_as(&mut Command::new(probe()), arguments)
    }

    pub(crate) fn start_as(command: &mut Command, arguments: &[&str]) -> Self {
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = child.stdin.take();
        Self { child, said, told }
    }

    pub(crate) async fn says(&mut self) -> String {
        self.said.next_line().await.unwrap().expect("it says something")
    }

    pub(crate) async fn tell(&mut self, line: &str) {
        let told = self.told.as_mut().unwrap();
        told.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }
}
