//! Anybody reads by what workloads are verified: the SPIFFE bundle of a trust domain, and its keys for OpenID Connect.

use std::{path::Path, process::Stdio};

use http::{Method, header};
use nullius_model::{AuthorityStage, SpiffeId, Timestamp, TrustDomain, Ttl};
use nullius_pki::{
    PrivateKey,
    workload::{
        AuthorityFacts, ClusterAuthority, JwtSigner, PreparedAuthority, SvidRequest, TrustBundle,
    },
};
use nullius_store::{CertifiedAuthority, ToldAuthority, ToldTrust, TrustStanding};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::harness::{Answer, TestHub, access, text};

const DOMAIN: &str = "dev.nullius.internal";
const BASE: &str = "/v1/trust/dev.nullius.internal";
const HOUR: Ttl = Ttl::from_secs(3_600);

/// What `agent identity` of a cluster keeps, and told.
pub(crate) struct Cluster {
    pub(crate) domain: TrustDomain,
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) authority: ClusterAuthority,
    pub(crate) jwt: JwtSigner,
}

impl Cluster {
    /// A cluster whose authority the hub certified for an hour.
    pub(crate) async fn add(hub: &TestHub, admin: &str, name: &str) -> Self {
        let object = json!({"metadata": {"name": name}, "spec": {}});
        let made = hub.apply(admin, "clusters", object).await.ok().json();
        let domain: TrustDomain = format!("{name}.nullius.internal").parse().unwrap();
        // The clock of the hub is ahead of that by which others verify.
        let now = Timestamp::now();
        let prepared = PreparedAuthority::create(domain.clone()).unwrap();
        let root = hub.hub().keys().workload_root();
        let signed = root.certify(&prepared.request().unwrap(), &domain, HOUR, now).unwrap();
        let authority = prepared.admit(signed, root.certificate_der(), now).unwrap();
        let jwt = JwtSigner::create(domain.clone()).unwrap();
        let uid = text(&made["metadata"]["uid"]).to_owned();
        let cluster = Self { domain, uid, name: name.to_owned(), authority, jwt };
        let facts = cluster.facts();
        let certified = CertifiedAuthority {
            serial: facts.serial,
            cluster: name.parse().unwrap(),
            trust_domain: cluster.domain.clone(),
            key_digest: facts.key_digest,
            certified_at: now,
            not_after: facts.not_after,
        };
        let mut tx = hub.hub().store().begin().await.unwrap();
        tx.clusters().put_authority(&certified).await.unwrap();
        tx.commit().await.unwrap();
        cluster
    }

    fn facts(&self) -> AuthorityFacts {
        AuthorityFacts::read(self.authority.certificate_der()).unwrap()
    }

    pub(crate) fn bundle(&self, sequence: u64) -> TrustBundle {
        let mut bundle = TrustBundle::new(self.domain.clone());
        bundle.add_x509(self.authority.anchor_der().clone()).unwrap();
        bundle.add_jwt(self.jwt.authority());
        bundle.at(sequence, 120)
    }

    pub(crate) async fn tells(&self, hub: &TestHub, bundle: &TrustBundle) {
        self.tells_as(hub, &self.uid, bundle).await;
    }

    async fn tells_as(&self, hub: &TestHub, uid: &str, bundle: &TrustBundle) {
        let (now, facts) = (hub.hub().now(), self.facts());
        let active = ToldAuthority {
            stage: AuthorityStage::Active,
            serial: facts.serial,
            jwt_key: self.jwt.authority().kid().to_owned(),
        };
        let told = ToldTrust {
            since: now,
            authorities: vec![active],
            bundle: Some(bundle.to_json().to_string()),
            wish: String::new(),
            rotated: String::new(),
        };
        let standing = TrustStanding {
            cluster: self.name.parse().unwrap(),
            uid: uid.to_owned(),
            trust_domain: self.domain.clone(),
            sequence: bundle.sequence().unwrap(),
            told,
            told_at: now,
        };
        let mut tx = hub.hub().store().begin().await.unwrap();
        tx.trust().put_standing(&standing).await.unwrap();
        tx.commit().await.unwrap();
    }
}

async fn anybody(hub: &TestHub, path: &str) -> Answer {
    hub.call(Method::GET, path, None, None).await
}

#[tokio::test]
async fn anybody_reads_the_bundle_and_the_keys_of_a_trust_domain_of_ours_and_of_no_other() {
    let hub = TestHub::start().await;
    let first = hub.first_admin().await;
    let tokens = hub.sign_in(&first).await;
    let admin = access(&tokens);
    let cluster = Cluster::add(&hub, admin, "dev").await;
    let bundle = format!("{BASE}/bundle");
    anybody(&hub, &bundle).await.refused(404, "not-found");
    cluster.tells(&hub, &cluster.bundle(9)).await;

    let told = anybody(&hub, &bundle).await.ok();
    assert_eq!(told.headers[header::CACHE_CONTROL], "public, max-age=120");
    let told = TrustBundle::read(cluster.domain.clone(), told.text.as_bytes()).unwrap();
    assert_eq!(told, cluster.bundle(9));
    let found = anybody(&hub, &format!("{BASE}/.well-known/openid-configuration")).await.ok();
    let found = found.json();
    let issuer = format!("{}{BASE}", hub.origin());
    assert_eq!(found["issuer"], issuer);
    assert_eq!(found["jwks_uri"], format!("{issuer}/jwks"));
    let keys = anybody(&hub, &format!("{BASE}/jwks")).await.ok().json();
    let [key] = &keys["keys"].as_array().unwrap()[..] else { panic!("{keys}") };
    assert_eq!((&key["use"], text(&key["kid"])), (&json!("sig"), cluster.jwt.authority().kid()));
    assert!(key.get("d").is_none());

    for strange in [
        "prod.nullius.internal",
        "DEV.nullius.internal",
        "..",
        "%2e%2e",
        "dev.nullius.internal%2f",
        "dev.nullius.internal%00",
        "%1b[2J",
    ] {
        let refused = anybody(&hub, &format!("/v1/trust/{strange}/bundle")).await;
        assert_eq!(refused.status, 404, "{strange}: {}", refused.text);
    }
}

#[tokio::test]
async fn who_has_a_bundle_is_told_so_and_nobody_asks_without_end() {
    let hub = TestHub::start().await;
    let first = hub.first_admin().await;
    let tokens = hub.sign_in(&first).await;
    let cluster = Cluster::add(&hub, access(&tokens), "dev").await;
    cluster.tells(&hub, &cluster.bundle(9)).await;
    let bundle = format!("{BASE}/bundle");
    let told = anybody(&hub, &bundle).await.ok();
    let tag = told.headers[header::ETAG].to_str().unwrap();
    let ask = async |known: &str| {
        let request = hub.request(Method::GET, &bundle).header(header::IF_NONE_MATCH, known);
        hub.send(request.body(Default::default()).unwrap()).await
    };
    for known in [tag.to_owned(), format!("\"x\", W/{tag}"), "*".to_owned()] {
        let again = ask(&known).await;
        assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{known}");
        assert_eq!(again.headers[header::ETAG], tag);
    }
    assert_eq!(ask("\"x\"").await.status, 200);
    cluster.tells(&hub, &cluster.bundle(10)).await;
    assert_eq!(ask(tag).await.status, 200);

    hub.move_to("127.9.9.9");
    let mut held = 0;
    for _ in 0..200 {
        held += u32::from(anybody(&hub, &bundle).await.status == 429);
    }
    assert!(held > 20, "{held}");
    // Nobody behind the same address is kept from signing in by that.
    hub.sign_in(&first).await;
    hub.move_to("127.0.0.1");
    anybody(&hub, &bundle).await.ok();
}

#[tokio::test]
async fn what_nobody_stands_behind_any_more_is_published_no_more() {
    let hub = TestHub::start().await;
    let first = hub.first_admin().await;
    let tokens = hub.sign_in(&first).await;
    let admin = access(&tokens);
    let cluster = Cluster::add(&hub, admin, "dev").await;
    // Of a key and an anchor that no authority of the cluster is beside nothing is passed on, however it came there.
    let mut more = cluster.bundle(9);
    let other = Cluster::add(&hub, admin, "prod").await;
    more.add_x509(other.authority.anchor_der().clone()).unwrap();
    more.add_jwt(other.jwt.authority());
    cluster.tells(&hub, &more).await;
    let path = format!("{BASE}/bundle");
    let read = |answer: Answer| {
        TrustBundle::read(DOMAIN.parse().unwrap(), answer.ok().text.as_bytes()).unwrap()
    };
    assert_eq!(read(anybody(&hub, &path).await), cluster.bundle(9));

    let target = json!({"kind": "Cluster", "name": "dev"});
    let lock = json!({"metadata": {"name": "stop"}, "spec": {"target": target}});
    hub.apply(admin, "locks", lock).await.ok();
    anybody(&hub, &path).await.refused(404, "not-found");
    hub.call(Method::DELETE, "/v1/objects/locks/stop", Some(admin), None).await.ok();
    anybody(&hub, &path).await.ok();
    // What another cluster of the name told.
    cluster.tells_as(&hub, "another", &cluster.bundle(9)).await;
    anybody(&hub, &path).await.refused(404, "not-found");
    cluster.tells(&hub, &cluster.bundle(9)).await;
    // The cluster was not heard for so long that its authority has ended: its tokens' key ends with it.
    hub.clock.advance(3_700);
    let left = read(anybody(&hub, &path).await);
    assert!(left.x509_authorities().is_empty() && left.jwt_authorities().is_empty());
}

#[tokio::test]
async fn go_spiffe_and_an_openid_library_verify_by_what_they_fetch() {
    let hub = TestHub::start().await;
    let Some(program) = program() else { return };
    let first = hub.first_admin().await;
    let tokens = hub.sign_in(&first).await;
    let cluster = Cluster::add(&hub, access(&tokens), "dev").await;
    cluster.tells(&hub, &cluster.bundle(9)).await;
    let now = Timestamp::now();
    let id: SpiffeId = format!("spiffe://{DOMAIN}/ns/web/sa/page").parse().unwrap();
    let issuer = format!("{}{BASE}", hub.origin());
    let token = cluster.jwt.sign_as(Some(&issuer), &id, &["store"], HOUR, now).unwrap();
    let csr = PrivateKey::generate().unwrap().request().unwrap();
    let asked = SvidRequest { id: &id, dns_names: &[], csr: &csr, life: HOUR };
    let svid = cluster.authority.issue(&asked, now).unwrap();
    let chain: String = svid.chain.iter().map(nullius_pki::certificate_pem).collect();
    let input = json!({
        "trustDomain": DOMAIN,
        "bundle": format!("{issuer}/bundle"),
        "issuer": issuer,
        "roots": hub.hub().keys().root().certificate_pem(),
        "token": token.expose_secret(),
        "audience": "store",
        "chain": chain,
    });
    let told = tokio::task::spawn_blocking(move || ask_go(&program, &input)).await.unwrap();
    assert_eq!((&told["sequence"], &told["refreshHint"]), (&json!(9), &json!(120)));
    assert_eq!((&told["anchors"], &told["keys"]), (&json!(1), &json!(1)));
    for proven in ["x509", "jwt", "openid"] {
        assert_eq!(told[proven], id.as_str(), "{proven}: {told}");
    }
    let refused = text(&told["otherAudience"]);
    assert!(refused.contains("audience"), "{refused}");
    let refused = text(&told["otherDomain"]);
    assert!(refused.contains("no authorities"), "{refused}");
}

/// The program with both libraries; nothing where Go is not here.
fn program() -> Option<std::path::PathBuf> {
    let version = std::process::Command::new("go").arg("version").stdout(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        nullius_skip::skip("it needs Go: run the test with `cargo xtask test`");
        return None;
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-trust-bundle");
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/spiffe");
    let built = std::process::Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg("./cmd/bundle")
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false")
        .current_dir(module)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(program)
}

fn ask_go(program: &Path, input: &Value) -> Value {
    use std::io::Write as _;
    let mut child = std::process::Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    serde_json::from_slice(&ended.stdout).unwrap()
}

#[tokio::test]
async fn who_may_lets_clusters_believe_each_other_and_sees_whom_they_believe() {
    let hub = TestHub::start().await;
    let first = hub.first_admin().await;
    let tokens = hub.sign_in(&first).await;
    let admin = access(&tokens);
    let [dev, prod] =
        [Cluster::add(&hub, admin, "dev").await, Cluster::add(&hub, admin, "prod").await];
    for cluster in [&dev, &prod] {
        cluster.tells(&hub, &cluster.bundle(7)).await;
    }
    let federation = |name: &str, clusters: Value| json!({"metadata": {"name": name}, "spec": {"clusters": clusters}});
    for wrong in [
        json!([]),
        json!(["dev"]),
        json!(["dev", "dev"]),
        json!(["dev", "nowhere"]),
        json!(["dev", "a/b"]),
        json!(["dev", "\u{1b}[2J"]),
    ] {
        let refused = hub.apply(admin, "federations", federation("shops", wrong)).await;
        refused.refused(422, "invalid");
    }
    let both = federation("shops", json!(["dev", "prod"]));
    hub.apply(admin, "federations", both.clone()).await.ok();
    let shown = hub.get("/v1/trust?cluster=dev", admin).await.ok().json();
    let [other] = &shown["items"][0]["federated"].as_array().unwrap()[..] else {
        panic!("{shown}")
    };
    let told = ["trustDomain", "from"].map(|field| text(&other[field]).to_owned());
    assert_eq!(told, ["prod.nullius.internal", "Cluster/prod"]);
    assert_eq!(other["sequence"], 7);

    // Who runs clusters does not say whom their workloads believe; nor does who only looks.
    let operator = hub.person(admin, "olaf", &[]).await;
    let grant = json!({ "metadata": { "name": "olaf-operates" }, "spec": {
        "subjects": [{ "kind": "User", "name": "olaf" }], "hubRole": "operator" } });
    hub.apply(admin, "grants", grant).await.ok();
    let tokens_of_olaf = hub.sign_in(&operator).await;
    let olaf = access(&tokens_of_olaf);
    let more = federation("more", json!(["dev", "prod"]));
    hub.apply(olaf, "federations", more).await.refused(403, "denied");
    hub.get("/v1/objects/federations", olaf).await.ok();
    let one = "/v1/objects/federations/shops";
    hub.call(Method::DELETE, one, Some(olaf), None).await.refused(403, "denied");

    let admin_again = hub.sign_in(&first).await;
    hub.call(Method::DELETE, one, Some(access(&admin_again)), None).await.ok();
    let shown = hub.get("/v1/trust?cluster=dev", access(&admin_again)).await.ok().json();
    assert_eq!(shown["items"][0].get("federated"), None);
}
