//! What the hub tells a cluster beside its own authority, on a real cluster: who issued its tokens, and whom its workloads may believe too.

use std::time::{Duration, Instant};

use nullius_model::{Timestamp, TrustDomain};
use nullius_pki::workload::{JwtSigner, JwtVerifier, TrustBundle};
use nullius_testkit::wait_until;
use serde_json::json;

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
    let shown = world.admin_json(&["trust", "show", "-c", world.cluster_name()]);
    let all = shown["items"][0]["federated"].as_array().unwrap();
    let other = all.iter().find(|it| it["trustDomain"] == domain.as_str()).unwrap();
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
}
