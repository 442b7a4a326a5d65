//! Workloads that others wrote: go-spiffe fetches, verifies, speaks TLS and sees rotation; the libraries for Python and Rust fetch and verify.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use nullius_model::{SystemClock, TrustDomain};
use nullius_workload::Entry;
use serde_json::{Value as Json, json};
use tokio::{process::Command, sync::OnceCell};

use crate::world::{Authority, DOMAIN, Node, OTHER, Workload, entry, own_user, registered};

/// The program, built once; nothing where Go is not here.
async fn program() -> Option<&'static PathBuf> {
    static BUILT: OnceCell<Option<PathBuf>> = OnceCell::const_new();
    BUILT.get_or_init(build).await.as_ref()
}

async fn build() -> Option<PathBuf> {
    let version = Command::new("go").arg("version").stdout(Stdio::null()).status().await;
    if !version.is_ok_and(|status| status.success()) {
        return None;
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-spiffe-workload");
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/spiffe");
    let built = Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg("./cmd/workload")
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false")
        .current_dir(module)
        .output()
        .await
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(program)
}

/// A node on which one's own user has two identities and may verify another trust domain.
fn node() -> Node {
    let bank: TrustDomain = OTHER.parse().unwrap();
    let other = Authority::create(OTHER, Arc::new(SystemClock));
    let hinted = |path: &str, hint: &str| Entry {
        hint: Some(hint.into()),
        federates_with: BTreeSet::from([bank.clone()]),
        ..entry(path, &[&own_user()])
    };
    let node = Node::start(Vec::new());
    let entries = vec![hinted("/ns/web/sa/page", "page"), hinted("/ns/web/sa/admin", "admin")];
    let mut now = registered(&node.authority, entries);
    now.bundles.insert(bank.clone(), other.bundle());
    node.register(now);
    node
}

async fn all_held(node: &mut Node) {
    let all = node.holdings.wait_for(|all| all.as_ref().is_some_and(|all| all.held.len() == 2));
    all.await.unwrap();
}

fn ids() -> [String; 2] {
    ["page", "admin"].map(|name| format!("spiffe://{DOMAIN}/ns/web/sa/{name}"))
}

async fn step(workload: &mut Workload, wanted: &str) -> Json {
    let said: Json = serde_json::from_str(&workload.says().await).unwrap();
    assert_eq!(said["step"], wanted, "{said}");
    said
}

#[tokio::test]
async fn go_spiffe_uses_everything_that_it_is_given() {
    let Some(program) = program().await else {
        nullius_skip::skip("it needs Go: run the test with `cargo xtask test`");
        return;
    };
    let mut node = node();
    all_held(&mut node).await;
    let endpoint = format!("unix://{}", node.path());
    let mut go = Workload::start_as(&mut Command::new(program), &[&endpoint, "store", "once"]);
    let x509 = step(&mut go, "x509").await;
    assert_eq!(x509["ids"], json!(ids()));
    assert_eq!(x509["hints"], json!(["page", "admin"]));
    assert_eq!(x509["bundles"], 2, "its own, and the one that it federates with");
    assert_eq!(step(&mut go, "bundles").await["count"], 2);
    let jwt = step(&mut go, "jwt").await;
    assert_eq!(jwt["id"], ids()[0]);
    assert_eq!(jwt["validated"], ids()[0]);
    assert_eq!(jwt["audience"], json!(["store"]));
    let other = jwt["otherAudience"].as_str().unwrap();
    assert!(other.contains("InvalidArgument") && other.contains("not for audience"), "{other}");
    let mtls = step(&mut go, "mtls").await;
    assert_eq!(mtls["echoed"], "hello");
    assert!(mtls["stranger"].as_str().unwrap().contains("unexpected ID"), "{mtls}");
    assert!(go.child.wait().await.unwrap().success());
    node.end().await;
}

#[tokio::test]
async fn go_spiffe_sees_rotation_and_the_end_of_its_identity() {
    let Some(program) = program().await else {
        nullius_skip::skip("it needs Go: run the test with `cargo xtask test`");
        return;
    };
    let mut node = node();
    all_held(&mut node).await;
    let endpoint = format!("unix://{}", node.path());
    let mut go = Workload::start_as(&mut Command::new(program), &[&endpoint, "store", "watch"]);
    let first = step(&mut go, "x509").await["serial"].clone();
    node.rotate().await;
    // Each of both SVIDs may come by itself: the default is renewed in the end.
    let mut second = step(&mut go, "x509").await;
    if second["serial"] == first {
        second = step(&mut go, "x509").await;
    }
    assert_ne!(second["serial"], first);
    node.register(registered(&node.authority, Vec::new()));
    let denied = loop {
        let said: Json = serde_json::from_str(&go.says().await).unwrap();
        if said["step"] == "error" {
            break said;
        }
    };
    assert!(denied["why"].as_str().unwrap().contains("PermissionDenied"), "{denied}");
    node.end().await;
}

#[tokio::test]
async fn the_python_library_uses_what_it_is_given() {
    let Some(packages) = std::env::var_os(nullius_testkit::PYTHON_PACKAGES) else {
        nullius_skip::skip("it needs Python with `spiffe`: run the test with `cargo xtask test`");
        return;
    };
    let mut node = node();
    all_held(&mut node).await;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/spiffe/workload.py");
    let endpoint = format!("unix://{}", node.path());
    let mut python = Command::new("python3");
    python.arg(program).args([&endpoint, "store"]).env("PYTHONPATH", packages);
    let ended = python.output().await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let told: Json = serde_json::from_slice(&ended.stdout).unwrap();
    let [page, admin] = ids();
    assert_eq!(told["id"], page);
    assert_eq!(told["ids"], json!([page, admin]));
    assert_eq!((&told["anchors"], &told["keys"]), (&json!(1), &json!(1)));
    assert_eq!((&told["token"], &told["validated"]), (&json!(page), &json!(page)));
    assert_eq!(told["audience"], json!(["store"]));
    assert!(told["otherAudience"].as_str().unwrap().ends_with("Error"), "{told}");
    node.end().await;
}

#[tokio::test]
async fn the_rust_library_uses_what_it_is_given_and_sees_rotation() {
    use futures::StreamExt as _;

    let mut node = node();
    all_held(&mut node).await;
    let endpoint = format!("unix://{}", node.path());
    let client = spiffe::WorkloadApiClient::connect_to(&endpoint).await.unwrap();
    let mut contexts = client.stream_x509_contexts().await.unwrap();
    let first = contexts.next().await.unwrap().unwrap();
    let svid = first.default_svid().unwrap();
    assert_eq!(svid.spiffe_id().to_string(), ids()[0]);
    assert_eq!(svid.hint(), Some("page"));
    let domain = svid.spiffe_id().trust_domain();
    let bundles = client.fetch_x509_bundles().await.unwrap();
    assert_eq!(bundles.get(domain).unwrap().authorities().len(), 1);
    let id = svid.spiffe_id().clone();
    let token = client.fetch_jwt_svid(["store"], Some(&id)).await.unwrap();
    assert_eq!((token.spiffe_id(), token.audience()), (&id, &["store".to_owned()][..]));
    client.validate_jwt_token("store", token.token()).await.unwrap();
    client.validate_jwt_token("bank", token.token()).await.unwrap_err();
    let keys = client.fetch_jwt_bundles().await.unwrap();
    assert!(keys.get(domain).unwrap().find_jwt_authority(token.key_id()).is_some());
    node.rotate().await;
    let leaf = svid.leaf().as_bytes().to_vec();
    loop {
        let next = contexts.next().await.unwrap().unwrap();
        if next.default_svid().unwrap().leaf().as_bytes() != leaf {
            break;
        }
    }
    node.end().await;
}
