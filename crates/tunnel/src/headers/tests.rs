//! Every step of the header pipeline on plain values.
#![allow(clippy::unwrap_used, reason = "test")]

use http::Request;
use proptest::prelude::*;

use super::*;

fn run(version: Version, headers: &[(&str, &str)]) -> Result<Clean, Refusal> {
    let mut request = Request::builder().method("GET").uri("/api/v1/pods").version(version);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    from_client(&request.body(()).unwrap().into_parts().0)
}

fn code(headers: &[(&str, &str)]) -> u16 {
    run(Version::HTTP_11, headers).map_or_else(|refusal| refusal.code(), |_| 200)
}

#[test]
fn bad_framing_is_refused() {
    for bad in [
        vec![("content-length", "3"), ("transfer-encoding", "chunked")],
        vec![("content-length", "3"), ("content-length", "3")],
        vec![("content-length", "3"), ("content-length", "4")],
        vec![("content-length", "+3")],
        vec![("content-length", "3, 3")],
        vec![("content-length", "0x3")],
        vec![("content-length", "")],
        vec![("content-length", "9999999999999999999")],
        vec![("transfer-encoding", "gzip, chunked")],
        vec![("transfer-encoding", "identity")],
        vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        vec![("transfer-encoding", "xchunked")],
        vec![("host", "a"), ("host", "b")],
        vec![("authorization", "Bearer a"), ("authorization", "Bearer b")],
    ] {
        assert_eq!(code(&bad), 400, "{bad:?}");
    }
    let chunked_in_h2 = run(Version::HTTP_2, &[("transfer-encoding", "chunked")]);
    assert_eq!(chunked_in_h2.unwrap_err().code(), 400);
    assert_eq!(run(Version::HTTP_10, &[]).unwrap_err().code(), 400);
}

#[test]
fn a_connection_header_cannot_take_an_identity_or_the_framing_out() {
    for name in [
        "Impersonate-User",
        "impersonate-extra-x",
        "X-Remote-User",
        "authorization",
        "Audit-ID",
        "nullius-assertion",
        "content-length",
        "Transfer-Encoding",
        "cookie",
        "Impersonate_User",
        "sec-websocket-protocol",
        "host",
    ] {
        let value = format!("close, {name}");
        assert_eq!(code(&[("connection", &value)]), 403, "{name}");
    }
    assert_eq!(code(&[("connection", "a b")]), 400);
    assert_eq!(code(&[("connection", "keep-alive")]), 200);
}

#[test]
fn headers_that_claim_another_identity_are_refused_in_any_form() {
    for name in [
        "Impersonate-User",
        "IMPERSONATE-GROUP",
        "impersonate-uid",
        "Impersonate-Extra-scopes",
        "Impersonate_User",
        "X-Remote-User",
        "x-remote-group",
        "X-REMOTE-EXTRA-a",
        "X_Remote_User",
        "nullius-assertion",
        "nullius-method",
    ] {
        assert_eq!(code(&[(name, "system:admin")]), 403, "{name}");
    }
    let protocol = "v4.channel.k8s.io, base64url.bearer.authorization.k8s.io.dG9rZW4";
    assert_eq!(code(&[("sec-websocket-protocol", protocol)]), 403);
}

#[test]
fn only_listed_headers_pass_and_what_the_client_named_hop_by_hop_does_not() {
    let clean = run(
        Version::HTTP_11,
        &[
            ("accept", "application/json"),
            ("authorization", "Bearer secret"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("audit-id", "forged"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("x-http-method-override", "DELETE"),
            ("if-none-match", "x"),
            ("connection", "if-none-match"),
            ("kubectl-command", "kubectl get"),
        ],
    )
    .unwrap();
    let names: Vec<&str> = clean.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["accept", "kubectl-command"]);
}

#[test]
fn a_long_user_agent_is_cut() {
    let clean = run(Version::HTTP_11, &[("user-agent", &"a".repeat(4_000))]).unwrap();
    assert_eq!(clean.headers[header::USER_AGENT].len(), USER_AGENT_MAX);
}

#[test]
fn an_answer_cannot_plant_anything_in_a_browser() {
    let mut headers = HeaderMap::new();
    for name in [
        "set-cookie",
        "alt-svc",
        "strict-transport-security",
        "content-security-policy",
        "refresh",
        "clear-site-data",
        "access-control-allow-origin",
        "link",
        "www-authenticate",
        "server",
        "connection",
        "upgrade",
        "location",
        "nullius-upgrade",
        "nullius-answered-by",
        "service-worker-allowed",
        "report-to",
        "public-key-pins",
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
    }
    headers.insert("content-type", HeaderValue::from_static("text/html"));
    let clean = from_upstream(&headers);
    assert_eq!(clean.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-type"]);
}

#[test]
fn a_redirect_stays_within_or_is_elsewhere() {
    let read = |location: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_str(location).unwrap());
        redirect(&headers, Some("10.0.0.1:6443"))
    };
    assert_eq!(read("/api/v1/x/proxy/"), Redirect::Within("/api/v1/x/proxy/".into()));
    assert_eq!(read("https://10.0.0.1:6443/api"), Redirect::Within("/api".into()));
    for bad in [
        "//evil.example/",
        "https://evil.example/",
        "http://10.0.0.1:6443/api",
        "/\\evil.example",
        "javascript:alert(1)",
        "api/v1",
        "https://10.0.0.1:6443.evil.example/",
        "",
        "/a b",
        "https://10.0.0.1:64430/",
    ] {
        assert_eq!(read(bad), Redirect::Elsewhere, "{bad}");
    }
    assert_eq!(redirect(&HeaderMap::new(), None), Redirect::None);
}

proptest! {
    #[test]
    fn nothing_that_claims_an_identity_ever_passes(
        prefix in prop::sample::select(vec!["impersonate", "x-remote", "x_remote", "authorization", "cookie"]),
        upper in any::<u64>(),
        rest in "[-_a-zA-Z0-9]{0,12}",
    ) {
        let name: String = format!("{prefix}{rest}").chars().enumerate().map(|(index, character)| {
            if upper >> (index % 64) & 1 == 1 { character.to_ascii_uppercase() } else { character }
        }).collect();
        if let Ok(clean) = run(Version::HTTP_11, &[(&name, "root")]) {
            prop_assert!(clean.headers.is_empty());
        }
    }
}
