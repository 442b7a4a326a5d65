//! One test for each known way past policies of this kind.

use nullius_intention::{Accept, Head, Malformed, Protocol, Reads, RuleSet, Version};
use nullius_model::Reason;
use serde_json::{Value as Json, json};

use crate::world::{answer, connect, connect_to, decided, orders, rules, send, workload};

fn web(permissions: Json) -> Accept {
    connect(
        &rules([orders(
            "shop/orders",
            json!([{ "serviceAccount": "web", "permissions": permissions }]),
        )]),
        "shop/web",
    )
}

/// A deny of a path before an allow of all.
fn all_but_admin() -> Accept {
    web(json!([
        { "action": "deny", "paths": [{ "prefix": "/admin" }] },
        { "action": "allow", "paths": [{ "prefix": "/" }] },
    ]))
}

/// Path tricks, CVE-2021-31920.
#[test]
fn no_way_to_write_a_denied_path_slips_past_the_deny() {
    let accept = all_but_admin();
    for target in [
        "/admin",
        "/admin/",
        "/admin/x",
        "/admin?x",
        "//admin",
        "/x//admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/.%2e/admin",
        "/%61dmin",
        "/%61%64%6d%69%6e",
        "/admin%2fx",
        "/admin%2Fx",
        "/x%2f..%2fadmin",
        "/x%5c..%5cadmin",
        "/x\\..\\admin",
        "/admin;x",
        "/admin;/x",
        "/;/admin",
        "/x/..;/admin",
        "/admin%3bx",
        "/admin%00",
        "/%2561dmin",
        "/admin%252fx",
        "/%c1%a1dmin",
        "/admin#x",
        "http://orders.shop/admin",
        "admin",
        "*",
    ] {
        assert!(!send("GET", target).is_allowed(&accept), "{target}");
    }
    for target in ["/administrator", "/x/admin", "/", "/%41dmin"] {
        assert!(send("GET", target).is_allowed(&accept), "{target}");
    }
}

/// CVE-2021-31920, the other way round: an allowed prefix leads nowhere else.
#[test]
fn no_way_out_of_an_allowed_prefix() {
    let accept = web(json!([{ "action": "allow", "paths": [{ "prefix": "/public" }] }]));
    for target in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/..;/admin",
        "/public/..%2fadmin",
        "/public/%252e%252e/admin",
        "/public/..\\admin",
        "/public//../admin",
        "/publicx",
        "/public%2f../admin",
    ] {
        assert!(!send("GET", target).is_allowed(&accept), "{target}");
    }
    assert!(send("GET", "/public/a%20b").is_allowed(&accept));
}

/// Values that only become the denied one together, or beside another, CVE-2026-26308.
#[test]
fn a_deny_of_a_header_sees_every_value_of_it() {
    let accept = web(json!([
        { "action": "deny", "headers": [{ "name": "x-role", "exact": "admin" }] },
        { "action": "deny", "headers": [{ "name": "x-both", "exact": "a,b" }] },
        { "action": "allow", "paths": [{ "prefix": "/" }] },
    ]));
    for values in [
        &["admin"][..],
        &["user", "admin"],
        &["admin", "user"],
        &["user, admin"],
        &["user,admin,x"],
        &[" admin "],
    ] {
        let sent = values.iter().fold(send("GET", "/"), |sent, value| sent.with("X-Role", value));
        assert!(!sent.is_allowed(&accept), "{values:?}");
    }
    assert!(!send("GET", "/").with("x-both", "a").with("x-both", "b").is_allowed(&accept));
    assert!(send("GET", "/").with("x-role", "user").with("x-role", "guest").is_allowed(&accept));
}

/// CVE-2026-26308: one right value does not make up for a wrong one.
#[test]
fn an_allow_by_a_header_needs_every_value_of_it() {
    let accept =
        web(json!([{ "action": "allow", "headers": [{ "name": "x-role", "exact": "reader" }] }]));
    assert!(send("GET", "/").with("x-role", "reader").is_allowed(&accept));
    assert!(send("GET", "/").with("x-role", "reader").with("X-ROLE", "reader").is_allowed(&accept));
    for values in [
        &["reader", "admin"][..],
        &["admin", "reader"],
        &["reader, admin"],
        &["reader,reader"],
        &[],
    ] {
        let sent = values.iter().fold(send("GET", "/"), |sent, value| sent.with("x-role", value));
        assert!(!sent.is_allowed(&accept), "{values:?}");
    }
}

/// CVE-2026-26308: what must not be is looked at in every value, and a missing header proves nothing.
#[test]
fn inverted_headers_are_read_to_the_safe_side() {
    let allow = web(
        json!([{ "action": "allow", "headers": [{ "name": "x-role", "exact": "guest", "invert": true }] }]),
    );
    assert!(send("GET", "/").with("x-role", "member").is_allowed(&allow));
    assert!(!send("GET", "/").with("x-role", "member").with("x-role", "guest").is_allowed(&allow));
    assert!(!send("GET", "/").is_allowed(&allow));
    let deny = web(json!([
        { "action": "deny", "headers": [{ "name": "x-tenant", "exact": "a", "invert": true }] },
        { "action": "allow", "paths": [{ "prefix": "/" }] },
    ]));
    assert!(send("GET", "/").with("x-tenant", "a").is_allowed(&deny));
    assert!(!send("GET", "/").with("x-tenant", "a").with("x-tenant", "b").is_allowed(&deny));
    assert!(!send("GET", "/").with("x-tenant", "a, b").is_allowed(&deny));
    assert!(!send("GET", "/").is_allowed(&deny));
}

/// CVE-2021-36213.
#[test]
fn one_deny_of_requests_opens_nothing_else() {
    let set = rules([orders(
        "shop/orders",
        json!([
            { "serviceAccount": "web", "permissions": [{ "action": "deny", "paths": [{ "prefix": "/admin" }] }] },
        ]),
    )]);
    let accept = connect(&set, "shop/web");
    for target in ["/admin", "/", "/x"] {
        assert!(!send("GET", target).is_allowed(&accept), "{target}");
    }
    let tcp = decided(&connect_to(&set, "shop/web", 8080, Protocol::Tcp));
    assert_eq!((tcp.is_allowed(), tcp.reason), (false, Reason::NotHttp));
    assert_eq!(answer(&set, "shop/other"), (false, Reason::NoIntention));
}

/// A forged `x-forwarded-client-cert` proves nothing: no rule can name it, and the source is what the connection has shown.
#[test]
fn a_forged_client_certificate_header_changes_nothing() {
    let accept = web(json!([{ "action": "allow", "when": "source.serviceAccount == 'admin'" }]));
    let sent = send("GET", "/")
        .with("x-forwarded-client-cert", "URI=spiffe://dev.example/ns/shop/sa/admin");
    assert!(!sent.is_allowed(&accept));
}

#[test]
fn a_policy_that_has_not_arrived_denies() {
    let set = RuleSet::new(workload());
    assert_eq!(answer(&set, "shop/web"), (false, Reason::NoIntention));
}

fn read(
    version: Version,
    authority: Option<&str>,
    headers: &[(&str, &str)],
) -> Result<String, Malformed> {
    let headers: Vec<(&[u8], &[u8])> =
        headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let authority = authority.map(str::as_bytes);
    let head = Head { method: b"POST", target: b"/", authority, headers: &headers, version };
    head.read(Reads::NoPaths).map(|request| request.host().to_owned())
}

#[test]
fn a_host_that_is_not_the_authority_is_refused() {
    let read =
        |authority: &str, host: &str| read(Version::Http2, Some(authority), &[("host", host)]);
    assert_eq!(read("orders.shop", "Orders.Shop."), Ok("orders.shop".to_owned()));
    assert_eq!(read("orders.shop:80", "orders.shop"), Ok("orders.shop".to_owned()));
    assert_eq!(read("orders.shop", "vault.bank"), Err(Malformed::HostMismatch));
    assert_eq!(read("orders.shop:80", "orders.shop:81"), Err(Malformed::HostMismatch));
}

#[test]
fn two_hosts_two_authorizations_and_none_are_refused() {
    let http1 = |headers: &[(&str, &str)]| read(Version::Http1, None, headers);
    assert_eq!(http1(&[("Host", "a"), ("host", "b")]), Err(Malformed::TwoHosts));
    assert_eq!(http1(&[("Host", "a"), ("host", "a")]), Err(Malformed::TwoHosts));
    assert_eq!(http1(&[]), Err(Malformed::NoHost));
    let two = [("Host", "a"), ("Authorization", "Bearer a"), ("authorization", "Bearer b")];
    assert_eq!(http1(&two), Err(Malformed::TwoAuthorizations));
}

#[test]
fn hosts_that_are_no_hosts_are_refused() {
    for host in [
        "", "a b", "a/b", "u@a", "a:b", "a:", "a:99999", "a..b", ".a", "[::1", "[x]", "[::1]x",
        "a,b", "é",
    ] {
        let refused = read(Version::Http1, None, &[("host", host)]);
        // An empty port names none, as in a URL.
        match host {
            "a:" => assert!(refused.is_err() || refused == Ok("a".to_owned())),
            _ => assert_eq!(refused, Err(Malformed::BadHost), "{host:?}"),
        }
    }
    assert_eq!(read(Version::Http1, None, &[("host", "[::1]:80")]), Ok("[::1]".to_owned()));
}

#[test]
fn a_body_with_two_ends_is_refused() {
    let with = |more: &[(&str, &str)]| {
        let mut headers = vec![("Host", "a")];
        headers.extend_from_slice(more);
        read(Version::Http1, None, &headers)
    };
    assert_eq!(
        with(&[("Content-Length", "4"), ("Transfer-Encoding", "chunked")]),
        Err(Malformed::LengthAndEncoding)
    );
    assert_eq!(
        with(&[("Transfer-Encoding", "chunked"), ("content-length", "0")]),
        Err(Malformed::LengthAndEncoding)
    );
    assert_eq!(
        with(&[("Content-Length", "4"), ("Content-Length", "5")]),
        Err(Malformed::BadLength)
    );
    for bad in ["-1", "+4", "4,4", "0x4", "", "99999999999999999999"] {
        assert_eq!(with(&[("Content-Length", bad)]), Err(Malformed::BadLength), "{bad}");
    }
    for bad in ["gzip, chunked", "xchunked", "identity", "chunked, chunked"] {
        assert_eq!(with(&[("Transfer-Encoding", bad)]), Err(Malformed::BadEncoding), "{bad}");
    }
    assert!(with(&[("Transfer-Encoding", "Chunked")]).is_ok());
}

#[test]
fn line_breaks_from_http2_start_no_header_in_http1() {
    for value in ["a\r\nx-role: admin", "a\nb", "a\rb", "a\0b", "a\u{7f}"] {
        assert_eq!(
            read(Version::Http2, Some("a"), &[("x", value)]),
            Err(Malformed::BadHeader),
            "{value:?}"
        );
    }
    for name in ["x y", "x:", "x\r\ny", "", "X-Upper", "é"] {
        assert_eq!(
            read(Version::Http2, Some("a"), &[(name, "v")]),
            Err(Malformed::BadHeader),
            "{name:?}"
        );
    }
    assert_eq!(read(Version::Http2, Some("a\r\nx: y"), &[]), Err(Malformed::BadHost));
}

#[test]
fn headers_of_the_connection_have_no_place_in_http2() {
    for (name, value) in [
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
    ] {
        assert_eq!(
            read(Version::Http2, Some("a"), &[(name, value)]),
            Err(Malformed::ConnectionHeader),
            "{name}"
        );
    }
    assert!(read(Version::Http2, Some("a"), &[("te", "trailers")]).is_ok());
}

#[test]
fn a_method_is_one_word_and_no_tunnel() {
    let method = |method: &str| {
        let head = Head {
            method: method.as_bytes(),
            target: b"/",
            authority: Some(b"a"),
            headers: &[],
            version: Version::Http2,
        };
        head.read(Reads::NoPaths).map(|request| request.method().to_owned())
    };
    assert_eq!(method("CONNECT"), Err(Malformed::Connect));
    for bad in ["", "get", "Get", "GET ", "G\r\nT", "GÉT"] {
        assert_eq!(method(bad), Err(Malformed::Method), "{bad:?}");
    }
    assert_eq!(method("PROPFIND"), Ok("PROPFIND".to_owned()));
}

#[test]
fn a_line_break_in_a_path_hides_nothing_from_a_regular_expression() {
    let accept = web(json!([
        { "action": "deny", "paths": [{ "regex": "/a.*secret" }] },
        { "action": "allow", "paths": [{ "prefix": "/" }] },
    ]));
    assert!(!send("GET", "/a%0asecret").is_allowed(&accept));
    assert!(!send("GET", "/a/x/secret/").is_allowed(&accept));
}
