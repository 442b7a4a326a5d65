//! Requests as kubectl, generated clients and attackers send them. The expected readings were compared with
//! those of k8s.io/apiserver v0.36.

#![allow(clippy::unwrap_used, reason = "test")]

use super::*;

/// `verb group/version namespace resource/subresource name`, or `verb url path`.
fn reading(method: &str, target: &str) -> String {
    match RequestInfo::parse(method, target) {
        Err(error) => format!("refused: {error}"),
        Ok(info) if !info.is_resource() => format!("{} url {}", info.verb(), info.path()),
        Ok(info) => {
            let or_dash =
                |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            let resource = match info.subresource() {
                "" => or_dash(info.resource()),
                subresource => format!("{}/{subresource}", info.resource()),
            };
            let group = match info.api_group() {
                "" => info.api_version().to_owned(),
                group => format!("{group}/{}", info.api_version()),
            };
            format!(
                "{} {group} {} {resource} {}",
                or_dash(info.verb()),
                or_dash(info.namespace()),
                or_dash(info.name())
            )
        }
    }
}

fn check(cases: &[(&str, &str, &str)]) {
    for (method, target, expected) in cases {
        assert_eq!(reading(method, target), *expected, "{method} {target}");
    }
}

#[test]
fn resources_are_read_with_group_namespace_name_and_subresource() {
    check(&[
        ("GET", "/api/v1/pods", "list v1 - pods -"),
        ("GET", "/api/v1/namespaces/shop/pods", "list v1 shop pods -"),
        ("GET", "/api/v1/namespaces/shop/pods/web", "get v1 shop pods web"),
        ("HEAD", "/api/v1/namespaces/shop/pods/web", "get v1 shop pods web"),
        ("POST", "/api/v1/namespaces/shop/pods", "create v1 shop pods -"),
        ("PUT", "/api/v1/namespaces/shop/pods/web", "update v1 shop pods web"),
        (
            "PATCH",
            "/apis/apps/v1/namespaces/shop/deployments/web",
            "patch apps/v1 shop deployments web",
        ),
        ("DELETE", "/api/v1/namespaces/shop/pods/web", "delete v1 shop pods web"),
        ("DELETE", "/api/v1/namespaces/shop/pods", "deletecollection v1 shop pods -"),
        ("GET", "/api/v1/namespaces/shop/pods/web/log", "get v1 shop pods/log web"),
        ("GET", "/api/v1/namespaces/shop/pods/web/log/more", "get v1 shop pods/log web"),
        ("GET", "/api/v1/nodes/n1/proxy/metrics", "get v1 - nodes/proxy n1"),
        (
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
            "get rbac.authorization.k8s.io/v1 - clusterroles system:node",
        ),
        (
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "get rbac.authorization.k8s.io/v1 - clusterroles system:node",
        ),
        ("OPTIONS", "/api/v1/namespaces/shop/pods", "- v1 shop pods -"),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "create authorization.k8s.io/v1 - selfsubjectaccessreviews -",
        ),
    ]);
}

#[test]
fn a_namespace_is_an_object_in_itself() {
    check(&[
        ("GET", "/api/v1/namespaces", "list v1 - namespaces -"),
        ("POST", "/api/v1/namespaces", "create v1 - namespaces -"),
        ("GET", "/api/v1/namespaces/shop", "get v1 shop namespaces shop"),
        ("DELETE", "/api/v1/namespaces/shop", "delete v1 shop namespaces shop"),
        ("PUT", "/api/v1/namespaces/shop/finalize", "update v1 shop namespaces/finalize shop"),
        ("PATCH", "/api/v1/namespaces/shop/status", "patch v1 shop namespaces/status shop"),
        (
            "GET",
            "/apis/example.org/v1/namespaces/shop/namespaces",
            "list example.org/v1 shop namespaces -",
        ),
    ]);
}

#[test]
fn lists_become_watches_and_take_a_name_from_the_field_selector() {
    check(&[
        ("GET", "/api/v1/pods?watch=true", "watch v1 - pods -"),
        ("GET", "/api/v1/pods?watch=1", "watch v1 - pods -"),
        ("GET", "/api/v1/pods?watch", "watch v1 - pods -"),
        ("GET", "/api/v1/pods?watch=", "watch v1 - pods -"),
        ("GET", "/api/v1/pods?watch=false", "list v1 - pods -"),
        ("GET", "/api/v1/pods?watch=FALSE", "list v1 - pods -"),
        ("GET", "/api/v1/pods?watch=0", "list v1 - pods -"),
        ("GET", "/api/v1/pods?watch=0&watch=1", "list v1 - pods -"),
        ("GET", "/api/v1/pods?watch=1&watch=0", "watch v1 - pods -"),
        ("GET", "/api/v1/pods?w%61tch=1", "watch v1 - pods -"),
        ("GET", "/api/v1/pods?Watch=1", "list v1 - pods -"),
        ("GET", "/api/v1/namespaces/shop/pods/web?watch=1", "get v1 shop pods web"),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dweb", "list v1 - pods web"),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name%3D%3Dweb&watch=1", "watch v1 - pods web"),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name!%3Dweb", "list v1 - pods -"),
        (
            "GET",
            "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1%2Cmetadata.name%3Dweb",
            "list v1 - pods web",
        ),
        (
            "GET",
            "/api/v1/pods?fieldSelector=metadata.name%3Dz%2Cmetadata.name%3Da",
            "list v1 - pods a",
        ),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Da%2Fb", "list v1 - pods -"),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name%3D..", "list v1 - pods -"),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Da%5Cb", "list v1 - pods -"),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dweb&limit=many", "list v1 - pods -"),
        ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dweb&limit=500", "list v1 - pods web"),
        (
            "GET",
            "/api/v1/pods?fieldSelector=metadata.name%3Dweb&labelSelector=!!",
            "list v1 - pods -",
        ),
        (
            "GET",
            "/api/v1/pods?fieldSelector=metadata.name%3Dweb&labelSelector=app%3Dx",
            "list v1 - pods web",
        ),
        (
            "DELETE",
            "/api/v1/namespaces/shop/pods?fieldSelector=metadata.name%3Dweb",
            "deletecollection v1 shop pods -",
        ),
    ]);
}

#[test]
fn verbs_in_the_path_count_as_in_kubernetes() {
    check(&[
        ("GET", "/api/v1/watch/pods", "watch v1 - pods -"),
        ("GET", "/api/v1/watch/namespaces/shop/pods", "watch v1 shop pods -"),
        ("GET", "/api/v1/watch/namespaces/shop/pods/web", "watch v1 shop pods web"),
        ("DELETE", "/apis/apps/v1/watch/deployments", "watch apps/v1 - deployments -"),
        ("GET", "/api/v1/proxy/namespaces/shop/services/web/x", "proxy v1 shop services web"),
        ("GET", "/api/v1/proxy/nodes/n1", "proxy v1 - nodes n1"),
        ("GET", "/api/v1/watch", "refused: the path names a verb but no resource"),
        ("GET", "/apis/apps/v1/proxy", "refused: the path names a verb but no resource"),
    ]);
}

#[test]
fn a_stream_into_a_container_is_create_by_any_method() {
    for stream in ["exec", "attach", "portforward"] {
        for method in ["GET", "HEAD", "POST"] {
            let target = format!("/api/v1/namespaces/shop/pods/web/{stream}?command=id&stdin=true");
            let expected = format!("create v1 shop pods/{stream} web");
            assert_eq!(reading(method, &target), expected);
        }
    }
    check(&[
        ("GET", "/api/v1/namespaces/shop/pods/web/proxy/x", "get v1 shop pods/proxy web"),
        ("POST", "/api/v1/namespaces/shop/pods/web/proxy/x", "create v1 shop pods/proxy web"),
        (
            "GET",
            "/apis/subresources.kubevirt.io/v1/namespaces/shop/virtualmachineinstances/vm/portforward",
            "get subresources.kubevirt.io/v1 shop virtualmachineinstances/portforward vm",
        ),
    ]);
}

#[test]
fn paths_that_name_no_resource_keep_their_method() {
    check(&[
        ("GET", "/", "get url /"),
        ("GET", "/version", "get url /version"),
        ("GET", "/version/", "get url /version/"),
        ("GET", "/api", "get url /api"),
        ("GET", "/apis/", "get url /apis/"),
        ("GET", "/api/v1", "get url /api/v1"),
        ("GET", "/apis/apps", "get url /apis/apps"),
        ("GET", "/apis/apps/v1/", "get url /apis/apps/v1/"),
        ("GET", "/openapi/v3/apis/apps/v1?hash=0A1B", "get url /openapi/v3/apis/apps/v1"),
        ("POST", "/healthz", "post url /healthz"),
        ("GET", "/API/v1/pods", "get url /API/v1/pods"),
        ("GET", "/metrics?watch=1", "get url /metrics"),
    ]);
}

#[test]
fn a_proxied_application_has_its_own_paths() {
    check(&[
        (
            "GET",
            "/api/v1/namespaces/shop/services/https:web:443/proxy/",
            "get v1 shop services/proxy https:web:443",
        ),
        (
            "GET",
            "/api/v1/namespaces/shop/services/web/proxy/a%20b/%C3%A4?x=%2F..%2F",
            "get v1 shop services/proxy web",
        ),
        (
            "GET",
            "/api/v1/namespaces/shop/services/w%C3%A4b/proxy/x",
            "refused: path or query has a percent encoding that two servers could read differently",
        ),
        (
            "GET",
            "/api/v1/namespaces/shop/services/web/proxy/../../secrets",
            "refused: the path has a segment `.` or `..`",
        ),
        (
            "GET",
            "/api/v1/namespaces/shop/services/web/proxy//x",
            "refused: the path has an empty segment",
        ),
        (
            "GET",
            "/api/v1/namespaces/shop/services/web/proxy/%2e%2e/x",
            "refused: path or query has a percent encoding that two servers could read differently",
        ),
    ]);
}

#[test]
fn what_two_servers_could_read_differently_is_refused() {
    let empty = "refused: the path has an empty segment";
    let dots = "refused: the path has a segment `.` or `..`";
    let encoding =
        "refused: path or query has a percent encoding that two servers could read differently";
    check(&[
        ("GET", "//api/v1/pods", empty),
        ("GET", "/api//v1/pods", empty),
        ("GET", "/api/v1/pods/", empty),
        ("GET", "/api/v1/namespaces/shop/pods/", empty),
        ("DELETE", "/api/v1/namespaces/shop/secrets/", empty),
        ("GET", "//", empty),
        ("GET", "/api/v1/namespaces/shop/../kube-system/secrets", dots),
        ("GET", "/api/v1/./pods", dots),
        ("GET", "/api/v1/namespaces/shop%2fpods", encoding),
        ("GET", "/api/v1/namespaces/shop%2Fpods", encoding),
        ("GET", "/api/v1/namespaces/%2e%2e/pods", encoding),
        ("GET", "/api/v1/namespaces/shop%252fpods", encoding),
        ("GET", "/api/v1/p%6fds", encoding),
        ("GET", "/api/v1/pods%00", encoding),
        ("GET", "/api/v1/pods%0d%0aX:y", encoding),
        ("GET", "/api/v1/pods%5c..", encoding),
        ("GET", "/api/v1/pods%", encoding),
        ("GET", "/api/v1/pods%2", encoding),
        ("GET", "/api/v1/pods%zz", encoding),
        ("GET", "/api/v1/pods?watch=%zz", encoding),
        ("GET", "/api/v1/pods?watch%", encoding),
        ("GET", "/api/v1/namespaces/%C3%A4/pods", encoding),
        (
            "GET",
            "/api/v1/pods\\x",
            "refused: path or query has the byte 0x5c, which may not stand there",
        ),
        (
            "GET",
            "/api/v1/pods\tx",
            "refused: path or query has the byte 0x09, which may not stand there",
        ),
        (
            "GET",
            "/api/v1/p\u{f6}ds",
            "refused: path or query has the byte 0xc3, which may not stand there",
        ),
        (
            "GET",
            "/api/v1/pods#x",
            "refused: path or query has the byte 0x23, which may not stand there",
        ),
        (
            "GET",
            "/api/v1/pods?x=1;watch=1",
            "refused: path or query has the byte 0x3b, which may not stand there",
        ),
        (
            "GET",
            "/api/v1/pods?a=\r\nb",
            "refused: path or query has the byte 0x0d, which may not stand there",
        ),
        (
            "GET",
            "/api/v1/pods?a=b c",
            "refused: path or query has the byte 0x20, which may not stand there",
        ),
        ("GET", "api/v1/pods", "refused: the path does not begin with `/`"),
        ("GET", "", "refused: the path does not begin with `/`"),
        ("GET", "http://evil/api/v1/pods", "refused: the path does not begin with `/`"),
        ("get", "/api/v1/pods", "refused: the method is none that Kubernetes serves"),
        ("CONNECT", "/api/v1/pods", "refused: the method is none that Kubernetes serves"),
        ("TRACE", "/", "refused: the method is none that Kubernetes serves"),
    ]);
}

#[test]
fn a_long_request_line_is_refused_and_one_byte_less_is_read() {
    let target = format!("/version?{}", "a".repeat(MAX_TARGET_BYTES - 9));
    assert_eq!(reading("GET", &target), "get url /version");
    assert!(matches!(RequestInfo::parse("GET", &(target + "a")), Err(UnreadablePath::TooLong)));
}

#[test]
fn what_is_forwarded_is_what_was_sent() {
    let target = "/apis/apps/v1/namespaces/shop/deployments?fieldSelector=a%3Db&x=%2B+y";
    let info = RequestInfo::parse("GET", target).unwrap();
    assert_eq!(info.path_and_query(), target);
    assert_eq!(info.raw_path(), "/apis/apps/v1/namespaces/shop/deployments");
    assert_eq!(info.raw_query(), Some("fieldSelector=a%3Db&x=%2B+y"));
    assert_eq!(RequestInfo::parse("GET", "/version").unwrap().raw_query(), None);
    assert_eq!(RequestInfo::parse("GET", "/version?").unwrap().raw_query(), Some(""));
}

#[test]
fn a_refusal_names_its_reason_and_what_to_do() {
    let refused = UnreadablePath::DotSegment.explanation();
    assert_eq!(refused.reason, Reason::Unreadable);
    assert!(refused.next.is_some());
}
