//! `nullius svid fetch` and `watch` against a real node.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use nullius_cli::Exit;
use nullius_model::{Clock, SystemClock, Timestamp, TrustDomain, Ttl};
use nullius_pki::workload::{
    ClusterAuthority, JwtSigner, PreparedAuthority, SvidRequest, TrustBundle, WorkloadRoot,
};
use nullius_workload::{
    Attestor, CgroupRoot, Entry, Issuer, JwtIssued, Limits, Registered, bind, keep, serve,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::person::Person;

const HOUR: Ttl = Ttl::from_secs(3_600);

struct Node {
    registered: watch::Sender<Option<Arc<Registered>>>,
    socket: PathBuf,
    bundle: PathBuf,
    _folder: TempDir,
    _tasks: JoinSet<()>,
}

impl Node {
    /// A node on which processes of a user have identities with these paths.
    fn start(user: u32, paths: &[&str]) -> Self {
        let domain: TrustDomain = "shop.example.org".parse().unwrap();
        let now = SystemClock.now();
        let root = WorkloadRoot::create(now).unwrap();
        let prepared = PreparedAuthority::create(domain.clone()).unwrap();
        let signed = root.certify(&prepared.request().unwrap(), &domain, HOUR, now).unwrap();
        let x509 = Arc::new(prepared.admit(signed, root.certificate_der(), now).unwrap());
        let jwt = Arc::new(JwtSigner::create(domain.clone()).unwrap());
        let mut bundle = TrustBundle::new(domain.clone());
        bundle.add_x509(x509.anchor_der().clone()).unwrap();
        bundle.add_jwt(jwt.authority());
        let folder = tempfile::tempdir().unwrap();
        let bundle_file = folder.path().join("bundle.json");
        fs::write(&bundle_file, bundle.to_json().to_string()).unwrap();
        let entry = |path: &&str| Entry {
            spiffe_id: format!("spiffe://{domain}{path}").parse().unwrap(),
            selectors: BTreeSet::from([format!("unix:uid:{user}").parse().unwrap()]),
            ttl: HOUR,
            jwt_ttl: Ttl::from_secs(300),
            dns_names: Vec::new(),
            hint: Some(path.trim_start_matches('/').into()),
            audiences: BTreeSet::from(["store".to_owned()]),
            federates_with: BTreeSet::new(),
        };
        let entries = paths.iter().map(|path| ((*path).into(), Arc::new(entry(path))));
        let first = Registered {
            trust_domain: domain.clone(),
            entries: entries.collect(),
            bundles: BTreeMap::from([(domain, Arc::new(bundle))]),
            reissue_before: None,
        };
        let socket = folder.path().join("workload.sock");
        let listener = bind(&socket).unwrap();
        let (registered, watched) = watch::channel(Some(Arc::new(first)));
        let issuer = issuer(x509, jwt);
        let (holdings, keeper) = keep(watched, issuer.clone(), Arc::new(SystemClock));
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper);
        tasks.spawn(serve(
            listener,
            Attestor::new(CgroupRoot::default()),
            holdings,
            issuer,
            Arc::new(SystemClock),
            Limits::default(),
            CancellationToken::new(),
        ));
        Self { registered, socket, bundle: bundle_file, _folder: folder, _tasks: tasks }
    }

    fn socket(&self) -> &str {
        self.socket.to_str().unwrap()
    }

    fn rotate(&self) {
        let current = self.registered.borrow().clone().unwrap();
        let next = Registered { reissue_before: Some(Timestamp::now()), ..(*current).clone() };
        self.registered.send_replace(Some(Arc::new(next)));
    }
}

fn issuer(x509: Arc<ClusterAuthority>, jwt: Arc<JwtSigner>) -> Issuer {
    Issuer::new(
        move |_, entry, csr| {
            let x509 = Arc::clone(&x509);
            async move {
                let (id, life) = (&entry.spiffe_id, entry.ttl);
                let asked = SvidRequest { id, dns_names: &[], csr: &csr, life };
                Ok(x509.issue(&asked, SystemClock.now()).unwrap())
            }
        },
        move |_, entry, audience| {
            let jwt = Arc::clone(&jwt);
            async move {
                let audience: Vec<&str> = audience.iter().map(String::as_str).collect();
                let now = SystemClock.now();
                let token = jwt.sign(&entry.spiffe_id, &audience, entry.jwt_ttl, now).unwrap();
                Ok(JwtIssued { token, expires_at: entry.jwt_ttl.after(now) })
            }
        },
    )
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn what_the_node_gives_is_shown_and_written_for_its_owner_alone() {
    let person = Person::new();
    let node = Node::start(own_user(), &["/ns/web/sa/page"]);
    let folder = person.home.path().join("identity");
    let write = folder.to_str().unwrap();
    let fetch = ["svid", "fetch", "--socket", node.socket()];
    let told = person.run(&[&fetch[..], &["--write", write, "-o", "json"]].concat()).await.ok();
    assert!(!told.contains("PRIVATE"), "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["kind"], "SvidList");
    assert_eq!(told["items"][0]["id"], "spiffe://shop.example.org/ns/web/sa/page");
    assert_eq!(mode(&folder), 0o700);
    for name in ["svid.pem", "svid_key.pem", "bundle.pem"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    // What was written proves who this is, by the bundle of its domain.
    let svid = folder.join("svid.pem");
    let of = |bundle: &Path| format!("shop.example.org={}", bundle.display());
    for bundle in [of(&node.bundle), of(&folder.join("bundle.pem"))] {
        let words = ["svid", "validate", svid.to_str().unwrap(), "--bundle", &bundle];
        let proven = person.run(&words).await.ok();
        assert!(proven.contains("/ns/web/sa/page, proven by an X.509-SVID"), "{proven}");
    }
    // OpenSSL agrees that key and certificate belong together.
    let public = |words: &[&str]| {
        let output = std::process::Command::new("openssl").args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let key = folder.join("svid_key.pem");
    let of_key = public(&["pkey", "-in", key.to_str().unwrap(), "-pubout"]);
    assert_eq!(public(&["x509", "-in", svid.to_str().unwrap(), "-noout", "-pubkey"]), of_key);

    let before = fs::read_link(folder.join("..data")).unwrap();
    person.run(&[&fetch[..], &["--write", write]].concat()).await.ok();
    assert_ne!(fs::read_link(folder.join("..data")).unwrap(), before);
    assert!(!folder.join(before).exists(), "no set is left behind");
    let names = person.run(&[&fetch[..], &["-o", "name"]].concat()).await.ok();
    assert_eq!(names, "spiffe://shop.example.org/ns/web/sa/page\n");
}

#[tokio::test]
async fn a_token_is_printed_alone() {
    let person = Person::new();
    let node = Node::start(own_user(), &["/a", "/b"]);
    let fetch = async |more: &[&str]| {
        let words = [&["svid", "fetch", "--socket", node.socket()], more].concat();
        person.run(&words).await
    };
    let one = ["--audience", "store", "--id", "spiffe://shop.example.org/b"];
    let token = fetch(&one).await.ok();
    assert_eq!(token.trim().split('.').count(), 3, "{token}");
    let all = fetch(&["--audience", "store", "-o", "json"]).await.ok();
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!(all["items"][0]["hint"], "a");
    assert_eq!(all["items"][1]["token"], token.trim());
    let denied = fetch(&["--audience", "bank"]).await.failed(Exit::Denied);
    assert!(denied.contains("this process has no identity"), "{denied}");
    fetch(&["--id", "spiffe://shop.example.org/b"]).await.failed(Exit::Usage);
    fetch(&["--audience", "store", "--write", "/tmp"]).await.failed(Exit::Usage);
}

#[tokio::test]
async fn what_cannot_be_fetched_is_told_with_what_to_do() {
    let person = Person::new();
    let node = Node::start(own_user().wrapping_add(7), &["/a"]);
    let fetch = async |socket: &str, exit: Exit, words: &str| {
        let told = person.run(&["svid", "fetch", "--socket", socket]).await.failed(exit);
        assert!(told.contains(words), "{told}");
    };
    let user = format!("no identity is registered for user {}", own_user());
    fetch(node.socket(), Exit::Denied, &user).await;
    let missing = person.home.path().join("none.sock");
    let missing = format!("unix://{}", missing.display());
    fetch(&missing, Exit::Failed, "name its socket: `--socket PATH`").await;
    fetch("tcp://127.0.0.1:8081", Exit::Usage, "a network does not say who calls").await;
    fetch("none.sock", Exit::Usage, "an absolute path").await;
    // A file of somebody's is not replaced.
    let own = Node::start(own_user(), &["/a"]);
    let folder = person.home.path().join("identity");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(folder.join("svid.pem"), "mine").unwrap();
    let words = ["svid", "fetch", "--socket", own.socket(), "--write", folder.to_str().unwrap()];
    let told = person.run(&words).await.failed(Exit::Failed);
    assert!(told.contains("refused to replace"), "{told}");
    assert_eq!(fs::read_to_string(folder.join("svid.pem")).unwrap(), "mine");
}

#[tokio::test]
async fn files_follow_the_rotation() {
    let person = Person::new();
    let node = Node::start(own_user(), &["/a"]);
    let folder = person.home.path().join("identity");
    let words = ["svid", "watch", "--socket", node.socket(), "--write", folder.to_str().unwrap()];
    // The folder of a set is read: through the plain names two of them could be of two sets.
    let read = || {
        let set = folder.join(fs::read_link(folder.join("..data")).ok()?);
        let pem = |name: &str| fs::read_to_string(set.join(name)).ok();
        pem("svid.pem").zip(pem("svid_key.pem"))
    };
    let follow = async {
        let changed = async |before: Option<(String, String)>| {
            loop {
                match read() {
                    Some(now) if Some(&now) != before.as_ref() => return now,
                    _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            }
        };
        let first = changed(None).await;
        node.rotate();
        let second = changed(Some(first.clone())).await;
        assert!(first.0 != second.0 && first.1 != second.1);
    };
    tokio::select! {
        () = follow => {}
        done = person.run(&words) => panic!("{done:?}"),
    }
}
