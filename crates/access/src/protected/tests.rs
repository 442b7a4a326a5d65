#![allow(clippy::unwrap_used, reason = "test")]

use super::*;

fn read(line: &str) -> RequestInfo {
    let (method, target) = line.split_once(' ').unwrap();
    RequestInfo::parse(method, target).unwrap()
}

fn is_refused(line: &str) -> bool {
    protected_request(&read(line)).is_some()
}

#[test]
fn no_way_through_a_node_enters_our_pods() {
    let node = "/api/v1/nodes/n1/proxy";
    for into in ["exec", "run", "attach", "portForward", "containerLogs", "checkpoint"] {
        for namespace in PROTECTED_NAMESPACES {
            for method in ["GET", "POST"] {
                let line = format!("{method} {node}/{into}/{namespace}/agent/agent?command=sh");
                assert!(is_refused(&line), "{line}");
            }
        }
        assert!(is_refused(&format!("POST {node}/{into}")), "names no pod");
        let other = format!("POST {node}/{into}/shop/web/web?command=sh");
        assert!(!is_refused(&other), "{other}");
    }
    for refused in [
        "GET /api/v1/nodes/https:n1:10250/proxy/exec/nullius-system/agent/uid/agent",
        "GET /api/v1/nodes/nodes/proxy/exec/nullius-system/agent/agent",
        "GET /api/v1/nodes/n1/proxy/cri/exec/token",
        "GET /api/v1/nodes/n1/proxy/EXEC/shop/web/web",
        "GET /api/v1/nodes/n1/proxy/never-heard-of",
        "GET /api/v1/nodes/n1/proxy/",
        "GET /api/v1/nodes/n1/proxy",
        "GET /api/v1/proxy/nodes/n1/exec/nullius-system/agent/agent",
        "GET /api/v1/nodes/n1/proxy/logs/pods/nullius-system_agent_1/agent/0.log",
        "GET /api/v1/nodes/n1/proxy/logs/containers/agent_nullius-system_agent-1.log",
        "GET /api/v1/nodes/n1/proxy/logs/?query=/pods/nullius-system_agent_1/agent/0.log",
        "GET /api/v1/nodes/n1/proxy/logs/?query=%2Fpods%2Fnullius%2Dsystem_agent_1/agent/0.log",
    ] {
        assert!(is_refused(refused), "{refused}");
    }
    for open in [
        "GET /api/v1/nodes/n1/proxy/metrics/cadvisor",
        "GET /api/v1/nodes/n1/proxy/stats/summary",
        "GET /api/v1/nodes/n1/proxy/pods",
        "GET /api/v1/nodes/n1/proxy/configz",
        "GET /api/v1/nodes/n1/proxy/logs/kubelet.log",
        "GET /api/v1/nodes/n1/proxy/logs/?query=kubelet",
        "GET /api/v1/nodes/n1",
    ] {
        assert!(!is_refused(open), "{open}");
    }
}

#[test]
fn no_stream_and_no_connection_reaches_our_pods_by_any_verb() {
    for line in [
        "GET /api/v1/namespaces/nullius-system/pods/agent/exec?command=sh",
        "GET /api/v1/watch/namespaces/nullius-system/pods/agent/exec",
        "GET /api/v1/watch/namespaces/nullius-system/pods/agent/proxy",
        "GET /api/v1/namespaces/nullius-system/pods/agent/attach",
        "POST /api/v1/namespaces/nullius-system/pods/agent/portforward",
        "GET /api/v1/namespaces/nullius-system/pods/agent:8081/proxy/metrics",
        "GET /api/v1/namespaces/nullius-system/services/nullius-agent-control:8444/proxy/",
        "GET /api/v1/proxy/namespaces/nullius-system/pods/agent/metrics",
        "GET /api/v1/namespaces/nullius-system/pods/agent/ephemeralcontainers",
        "PATCH /api/v1/namespaces/nullius-system/pods/agent/ephemeralcontainers",
        "GET /apis/example.org/v1/namespaces/nullius-system/machines/m/console",
    ] {
        assert!(is_refused(line), "{line}");
    }
    assert!(!is_refused("GET /api/v1/namespaces/nullius-system/pods/agent/log"));
    assert!(!is_refused(
        "GET /apis/apps/v1/namespaces/nullius-system/deployments/nullius-agent-proxy/scale"
    ));
}

#[test]
fn who_lists_all_secrets_does_not_see_ours() {
    let all = "/api/v1/secrets";
    for query in [
        "",
        "?limit=500",
        "?watch=1",
        "?labelSelector=owner%3Dhelm&limit=500",
        "?fieldSelector=",
        "?fieldSelector=type%3DOpaque&watch=true",
        "?fieldSelector=metadata.name%3Dnullius-join",
        "?fieldSelector=metadata.namespace%3Dnullius-system",
        "?f%69eldSelector=metadata.name%3Dnullius-join",
        "?fieldSelector=a%3Db&fieldSelector=metadata.namespace!%3Dnullius-system",
        "?fieldSelector=metadata.namespace!%3Dnullius-sessions%2Cmetadata.namespace!%3Dnullius-system",
    ] {
        let line = format!("GET {all}{query}");
        let asked = read(&line);
        assert!(protected_request(&asked).is_some(), "{line}");
        let target = without_protected(&asked).unwrap();
        let narrowed = RequestInfo::parse("GET", &target).unwrap();
        assert!(protected_request(&narrowed).is_none(), "{target}");
        assert_eq!(narrowed.verb(), asked.verb(), "{target}");
        assert_eq!(without_protected(&narrowed), None, "once is enough: {target}");
    }
    let target = without_protected(&read(
        "GET /api/v1/secrets?limit=5&fieldSelector=metadata.name%3Dx&watch=1",
    ));
    assert_eq!(
        target.unwrap(),
        format!("{all}?fieldSelector={ELSEWHERE}%2Cmetadata.name%3Dx&limit=5&watch=1")
    );
    assert!(is_refused(&format!("GET {all}?fieldSelector={ELSEWHERE}x")), "another namespace");
    assert!(is_refused("GET /api/v1/watch/secrets"));
    for other in ["/api/v1/namespaces/shop/secrets", "/api/v1/pods", "/apis/x.org/v1/secrets"] {
        assert_eq!(without_protected(&read(&format!("GET {other}"))), None);
        assert!(!is_refused(&format!("GET {other}")), "{other}");
    }
}
