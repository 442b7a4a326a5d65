//! The Workload API, as a workload sees it.

use std::{collections::BTreeSet, sync::Arc};

use nullius_model::{SystemClock, Timestamp, TrustDomain};
use nullius_pki::workload::{TrustBundle, verify_x509_svid};
use nullius_proto::spiffe::{
    JwtBundlesRequest, JwtsvidRequest, ValidateJwtsvidRequest, X509BundlesRequest, X509svidRequest,
    spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use nullius_workload::{CgroupRoot, ClientError, Entry, Limits, Registered};
use secrecy::ExposeSecret as _;
use tonic::{Code, Request, Status, transport::Channel};

use crate::world::{Authority, DOMAIN, Node, OTHER, entry, own_user, registered};

/// A client that says what it wants, wrong things too.
pub(crate) async fn raw(node: &Node) -> SpiffeWorkloadApiClient<Channel> {
    let target = format!("unix:{}", node.path());
    let channel = tonic::transport::Endpoint::from_shared(target).unwrap().connect().await.unwrap();
    SpiffeWorkloadApiClient::new(channel)
}

pub(crate) fn signed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

fn mine(path: &str) -> Entry {
    entry(path, &[&own_user()])
}

fn jwt(audience: &[&str], id: &str) -> JwtsvidRequest {
    let audience = audience.iter().map(|name| (*name).to_owned()).collect();
    JwtsvidRequest { audience, spiffe_id: id.to_owned() }
}

#[tokio::test]
async fn a_workload_has_its_identity_and_a_new_one_after_rotation() {
    let mut node = Node::start(vec![mine("/ns/web/sa/page"), entry("/other", &["unix:uid:77"])]);
    let mut client = node.client().await;
    let mut sets = client.identities().await.unwrap();
    let first = sets.next().await.unwrap();
    let [identity] = first.identities.as_slice() else { panic!("{first:?}") };
    assert_eq!(identity.id().as_str(), format!("spiffe://{DOMAIN}/ns/web/sa/page"));
    let bundle = node.authority.bundle();
    let verify = |chain: &[_]| {
        verify_x509_svid(chain, |_| Some(&*bundle), Timestamp::now()).map(|(id, _)| id)
    };
    assert_eq!(verify(&identity.svid.chain).as_ref(), Ok(identity.id()));
    assert_eq!(identity.anchors, bundle.x509_authorities());
    let key = nullius_pki::PrivateKey::from_pkcs8(identity.key.as_pkcs8()).unwrap();
    assert!(identity.svid.is_for(&key));
    node.rotate().await;
    let second = sets.next().await.unwrap();
    let [renewed] = second.identities.as_slice() else { panic!("{second:?}") };
    assert_eq!(verify(&renewed.svid.chain).as_ref(), Ok(identity.id()));
    assert_ne!(renewed.svid.chain, identity.svid.chain);
    assert_ne!(renewed.key.as_pkcs8(), identity.key.as_pkcs8(), "a new key each time");
    node.end().await;
}

#[tokio::test]
async fn messages_are_full_sets_with_hints_and_federated_bundles() {
    let other = Authority::create(OTHER, Arc::new(SystemClock));
    let node = Node::start(Vec::new());
    let bank: TrustDomain = OTHER.parse().unwrap();
    let hinted = |path: &str, hint: &str| Entry { hint: Some(hint.into()), ..mine(path) };
    let federated = Entry { federates_with: BTreeSet::from([bank.clone()]), ..hinted("/b", "b") };
    let mut now =
        registered(&node.authority, vec![hinted("/a", "a"), federated, hinted("/c", "a")]);
    now.bundles.insert(bank.clone(), other.bundle());
    node.register(now.clone());
    let mut client = node.client().await;
    let mut sets = client.identities().await.unwrap();
    // The first set may come before all are issued.
    let set = loop {
        let set = sets.next().await.unwrap();
        if set.identities.len() == 2 {
            break set;
        }
    };
    let told: Vec<_> =
        set.identities.iter().map(|one| (one.id().path(), one.hint.clone())).collect();
    let hint = |hint: &str| Some(hint.to_owned());
    assert_eq!(told, [("/a", hint("a")), ("/b", hint("b"))], "a hint stands once");
    assert_eq!(set.foreign[&bank], other.bundle().x509_authorities());
    // What is no longer registered is in no later set.
    now.entries.pop_first();
    node.register(now);
    let set = sets.next().await.unwrap();
    let told: Vec<_> = set.identities.iter().map(|one| one.id().path()).collect();
    assert_eq!(told, ["/b", "/c"]);
    node.register(registered(&node.authority, vec![entry("/a", &["unix:uid:77"])]));
    assert!(matches!(sets.next().await, Err(ClientError::Denied(_))));
    node.end().await;
}

#[tokio::test]
async fn a_request_without_the_sign_of_a_workload_is_refused() {
    let node = Node::start(vec![mine("/a")]);
    let mut api = raw(&node).await;
    let refused = |status: Status| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains("workload.spiffe.io"), "{status}");
    };
    for sign in [None, Some("false"), Some("True"), Some("")] {
        let with = |mut request: Request<X509svidRequest>| {
            if let Some(sign) = sign {
                request.metadata_mut().insert("workload.spiffe.io", sign.parse().unwrap());
            }
            request
        };
        refused(api.fetch_x509svid(with(Request::new(X509svidRequest {}))).await.unwrap_err());
    }
    refused(api.fetch_x509_bundles(X509BundlesRequest {}).await.unwrap_err());
    refused(api.fetch_jwtsvid(jwt(&["a"], "")).await.unwrap_err());
    refused(api.fetch_jwt_bundles(JwtBundlesRequest {}).await.unwrap_err());
    refused(api.validate_jwtsvid(ValidateJwtsvidRequest::default()).await.unwrap_err());
    // Twice is not once.
    let mut twice = signed(X509svidRequest {});
    twice.metadata_mut().append("workload.spiffe.io", "true".parse().unwrap());
    refused(api.fetch_x509svid(twice).await.unwrap_err());
    node.end().await;
}

#[tokio::test]
async fn who_has_no_identity_is_denied_everything() {
    let node = Node::start(vec![entry("/a", &["unix:uid:77"])]);
    let mut api = raw(&node).await;
    let denied = |status: Status| {
        assert_eq!(status.code(), Code::PermissionDenied, "{status}");
        assert!(status.message().contains("no identity is registered for user"), "{status}");
    };
    let mut stream = api.fetch_x509svid(signed(X509svidRequest {})).await.unwrap().into_inner();
    denied(stream.message().await.unwrap_err());
    let mut stream =
        api.fetch_x509_bundles(signed(X509BundlesRequest {})).await.unwrap().into_inner();
    denied(stream.message().await.unwrap_err());
    let mut stream =
        api.fetch_jwt_bundles(signed(JwtBundlesRequest {})).await.unwrap().into_inner();
    denied(stream.message().await.unwrap_err());
    denied(api.fetch_jwtsvid(signed(jwt(&["a"], ""))).await.unwrap_err());
    let validate = ValidateJwtsvidRequest { audience: "a".to_owned(), svid: "a.b.c".to_owned() };
    denied(api.validate_jwtsvid(signed(validate)).await.unwrap_err());
    assert_eq!(*node.authority.issued.lock().unwrap(), 1, "nothing was signed but for the entry");
    node.end().await;
}

#[tokio::test]
async fn a_node_that_starts_is_unavailable_and_not_forbidding() {
    let authority = Authority::create(DOMAIN, Arc::new(SystemClock));
    let root = CgroupRoot::default();
    let node = Node::start_with(Arc::clone(&authority), None, Limits::default(), root);
    let mut client = node.client().await;
    let told = client.identities().await.unwrap().next().await;
    assert!(matches!(told, Err(ClientError::Unavailable(_))), "{told:?}");
    let told = client.tokens(vec!["a".to_owned()], None).await;
    assert!(matches!(told, Err(ClientError::Unavailable(_))), "{told:?}");
    // The first set of a workload that is registered waits for its SVID.
    *authority.is_away.lock().unwrap() = true;
    node.register(registered(&authority, vec![mine("/a")]));
    let mut sets = client.identities().await.unwrap();
    *authority.is_away.lock().unwrap() = false;
    assert_eq!(sets.next().await.unwrap().identities.len(), 1);
    node.end().await;
}

#[tokio::test]
async fn tokens_are_for_their_audience_and_verified_by_it() {
    let speaks_to = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let narrow = Entry { audiences: speaks_to(&["store"]), ..mine("/narrow") };
    let node = Node::start(vec![mine("/wide"), narrow]);
    let mut client = node.client().await;
    let audience = |name: &str| vec![name.to_owned()];
    let tokens = client.tokens(audience("store"), None).await.unwrap();
    let ids: Vec<_> = tokens.iter().map(|token| token.id.path()).collect();
    assert_eq!(ids, ["/wide", "/narrow"]);
    let bundle = node.authority.bundle();
    let token = tokens[1].token.expose_secret();
    let proven = TrustBundle::verify_jwt(token, "store", |_| Some(&*bundle), Timestamp::now());
    assert_eq!(proven.unwrap().id, tokens[1].id);
    // An audience that one may not speak to is left to the other.
    let tokens = client.tokens(audience("bank"), None).await.unwrap();
    assert_eq!(tokens.len(), 1);
    let narrow = format!("spiffe://{DOMAIN}/narrow").parse().unwrap();
    let told = client.tokens(audience("bank"), Some(&narrow)).await;
    assert!(matches!(told, Err(ClientError::Denied(_))), "{told:?}");
    // The same is signed once.
    let before = *node.authority.issued.lock().unwrap();
    let again = client.tokens(audience("store"), Some(&narrow)).await.unwrap();
    assert_eq!(*node.authority.issued.lock().unwrap(), before);
    let mut api = raw(&node).await;
    let svid = again[0].token.expose_secret().to_owned();
    let ask = |audience: &str| {
        signed(ValidateJwtsvidRequest { audience: audience.to_owned(), svid: svid.clone() })
    };
    let valid = api.validate_jwtsvid(ask("store")).await.unwrap().into_inner();
    assert_eq!(valid.spiffe_id, narrow.to_string());
    assert!(valid.claims.unwrap().fields.contains_key("exp"));
    let refused = api.validate_jwtsvid(ask("bank")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("not for audience `bank`"), "{refused}");
    node.end().await;
}

#[tokio::test]
async fn an_id_is_asked_for_in_its_one_form() {
    let node = Node::start(vec![mine("/a")]);
    let mut api = raw(&node).await;
    let upper = format!("spiffe://{}/a", DOMAIN.to_uppercase());
    for id in [upper.as_str(), "spiffe://d", "a", "spiffe://d/../a"] {
        let refused = api.fetch_jwtsvid(signed(jwt(&["store"], id))).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{id}: {refused}");
    }
    let refused = api.fetch_jwtsvid(signed(jwt(&[], ""))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let huge = "x".repeat(64 * 1024);
    let refused = api.fetch_jwtsvid(signed(jwt(&[&huge], ""))).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "a message has a bound: {refused}");
    node.end().await;
}

#[tokio::test]
async fn bundles_change_while_streams_are_open() {
    let node = Node::start(vec![mine("/a")]);
    let mut api = raw(&node).await;
    let request = signed(X509BundlesRequest {});
    let mut x509 = api.fetch_x509_bundles(request).await.unwrap().into_inner();
    let mut jwt = api.fetch_jwt_bundles(signed(JwtBundlesRequest {})).await.unwrap().into_inner();
    let id = format!("spiffe://{DOMAIN}");
    let first = x509.message().await.unwrap().unwrap();
    assert_eq!(first.bundles.keys().collect::<Vec<_>>(), [&id]);
    let keys = jwt.message().await.unwrap().unwrap();
    let keys: serde_json::Value = serde_json::from_slice(&keys.bundles[&id]).unwrap();
    assert_eq!(keys["keys"][0]["use"], "jwt-svid");
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);
    // A successor is published beside it.
    let successor = Authority::create(DOMAIN, Arc::new(SystemClock));
    let current = node.registered.borrow().clone().unwrap();
    let mut both = (*node.authority.bundle()).clone();
    both.add_x509(successor.bundle().x509_authorities()[0].clone()).unwrap();
    let mut next = (*current).clone();
    next.bundles.insert(DOMAIN.parse().unwrap(), Arc::new(both));
    node.register(Registered { reissue_before: None, ..next });
    let second = x509.message().await.unwrap().unwrap();
    assert!(second.bundles[&id].len() > first.bundles[&id].len());
    assert!(second.bundles[&id].starts_with(&first.bundles[&id]));
    node.end().await;
}
