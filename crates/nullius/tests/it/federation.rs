//! What the hub tells a cluster beside its own authority, on a real cluster: who issued its tokens, and whom its workloads may believe too.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nullius_model::{Timestamp, TrustDomain};
use nullius_pki::workload::{JwtSigner, JwtVerifier, TrustBundle};
use nullius_testkit::wait_until;
use nullius_tls::WorkloadConnector;
use nullius_tunnel::{Fetch, FetchError, Reach, ServerProof};
use serde_json::{Value, json};

use crate::{identity_lab::Lab, world::World};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn others_verify_tokens_by_what_the_hub_publishes_at_their_issuer() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world, "issuer");
    let here = lab.workload("here", 0);
    let caller = lab.caller(&lab.token(&lab.part(0)));
    let mut stream = caller.watch().unwrap();
    caller.wait_for(&mut stream, |told| told.pods.contains_key(&*here).then_some(()));
    let domain = lab.bundle().trust_domain().clone();
    let base = format!("/v1/trust/{domain}");
    let issuer = format!("{}{base}", world.environment.hub_url);
    let token = wait_until(SOON, "a token that says who issued it", || {
        let token = caller.jwt(&here, "bank").ok()?.token;
        let own = lab.bundle();
        let proven = JwtVerifier::new(&own).verify(&token, "bank", Timestamp::now()).unwrap();
        (proven.claims.get("iss") == Some(&json!(issuer))).then_some(token)
    });
    let hub = world.environment.hub().unwrap();
    let found = hub.get(&format!("{base}/.well-known/openid-configuration")).unwrap();
    assert_eq!(found.json().unwrap()["issuer"], issuer);
    let published = hub.get(&format!("{base}/bundle")).unwrap();
    let published = TrustBundle::read(domain, published.text().as_bytes()).unwrap();
    let proven = JwtVerifier::new(&published).verify(&token.unwrap(), "bank", Timestamp::now());
    let id = proven.unwrap().id;
    assert!(id.as_str().ends_with(&format!("/ns/{}/sa/default", lab.namespace.name())), "{id}");
}

#[test]
fn the_agent_publishes_its_bundle_and_proves_itself_by_it() {
    let Some(world) = World::together() else { return };
    let Some(program) = program() else { return };
    let lab = Lab::open(&world, "bundle-endpoint");
    let bundle = lab.bundle();
    let domain = bundle.trust_domain().clone();
    let address = *lab.replicas(1).values().next().unwrap();
    let url = format!("https://{address}/bundle");
    let id = format!("spiffe://{domain}/ns/nullius-system/sa/nullius-identity");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fetch = |url: &str, id: &str| {
        let expected = [id.parse().unwrap()].into();
        let connector = WorkloadConnector::without_svid([bundle.clone()], expected, &[]).unwrap();
        let server = ServerProof::Svid(connector);
        let accept = "application/json";
        let fetch = Fetch { url, server, reach: Reach::All, max: 64 * 1024, accept };
        runtime.block_on(fetch.get())
    };
    let told = TrustBundle::read(domain.clone(), &fetch(&url, &id).unwrap()).unwrap();
    assert!(told.sequence() >= bundle.sequence());
    assert_eq!(told.jwt_authorities().len(), told.x509_authorities().len());
    assert!(!told.x509_authorities().is_empty());
    // Nobody else is taken for it, and nothing else is there.
    let other = fetch(&url, &format!("spiffe://{domain}/ns/shop/sa/web"));
    assert!(matches!(other, Err(FetchError::Svid(..))), "{other:?}");
    let nothing = fetch(&format!("https://{address}/"), &id);
    assert!(matches!(nothing, Err(FetchError::Status(status)) if status == 404), "{nothing:?}");

    let ask = |id: &str| {
        let asked = json!({
            "trustDomain": domain, "url": url, "id": id, "bundle": bundle.to_json().to_string(),
        });
        ask_go(&program, &asked)
    };
    let heard = ask(&id).unwrap();
    assert_eq!(heard["anchors"], told.x509_authorities().len());
    assert_eq!(heard["keys"], told.jwt_authorities().len());
    let refused = ask(&format!("spiffe://{domain}/ns/shop/sa/web")).unwrap_err();
    assert!(refused.contains("unexpected ID"), "{refused}");
}

/// The program with go-spiffe; nothing where Go is not here.
fn program() -> Option<PathBuf> {
    let version = Command::new("go").arg("version").stdout(Stdio::null()).status();
    if !version.is_ok_and(|status| status.success()) {
        nullius_skip::skip("it needs Go: run the test with `cargo xtask test`");
        return None;
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-bundle-endpoint");
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dev/spiffe");
    let built = Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(&program)
        .arg("./cmd/endpoint")
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false")
        .current_dir(module)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(program)
}

/// What it answers, or what it says of why not.
fn ask_go(program: &Path, input: &Value) -> Result<Value, String> {
    let piped = Stdio::piped;
    let mut command = Command::new(program);
    let command = command.stdin(piped()).stdout(piped()).stderr(piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let ended = child.wait_with_output().unwrap();
    match ended.status.success() {
        true => Ok(serde_json::from_slice(&ended.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&ended.stderr).into_owned()),
    }
}

#[test]
fn nodes_have_the_bundle_of_another_trust_domain_for_as_long_as_somebody_federates_with_it() {
    let Some(world) = World::together() else { return };
    let lab = Lab::open(&world, "federation");
    let caller = lab.caller(&lab.token(&lab.part(0)));
    let mut stream = caller.watch().unwrap();
    let domain: TrustDomain = format!("{}.example", lab.namespace.name()).parse().unwrap();
    let mut bundle = TrustBundle::new(domain.clone());
    bundle.add_jwt(JwtSigner::create(domain.clone()).unwrap().authority());
    let bundle = bundle.at(7, 300);
    let name = lab.namespace.name();
    let federation = json!({
        "apiVersion": "nullius.dev/v1alpha1", "kind": "Federation", "metadata": { "name": name },
        "spec": { "clusters": [world.cluster_name()], "federatesWith": {
            "trustDomain": domain,
            // Nobody is there: what is given counts.
            "bundleEndpointURL": "https://127.0.0.1:1/bundle",
            "bundleEndpointProfile": { "type": "https_web" },
            "trustDomainBundle": bundle.to_json().to_string(),
        } },
    });
    world.apply(&federation.to_string());
    let told = caller.wait_for(&mut stream, |told| told.registered.bundles.get(&domain).cloned());
    assert_eq!(told.to_json(), bundle.to_json());
    let shown = || -> Option<Value> {
        let shown = world.admin_json(&["trust", "show", "-c", world.cluster_name()]);
        let all = shown["items"][0]["federated"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|it| it["trustDomain"] == domain.as_str())
    };
    // The agent says that it keeps this very bundle.
    let other = wait_until(SOON, "the cluster to say that it believes it", || {
        shown().filter(|it| it["belief"] == "believed")
    });
    let other = other.unwrap();
    assert_eq!(
        (&other["from"], &other["sequence"]),
        (&json!(format!("Federation/{name}")), &json!(7))
    );

    world.admin(&["delete", "federation", name, "--yes"]);
    let deleted = Instant::now();
    caller.wait_for(&mut stream, |told| {
        (!told.registered.bundles.contains_key(&domain)).then_some(())
    });
    assert!(deleted.elapsed() < Duration::from_secs(30), "{:?}", deleted.elapsed());
    wait_until(SOON, "the cluster to say that it believes it no more", || {
        shown().is_none().then_some(())
    })
    .unwrap();
}
