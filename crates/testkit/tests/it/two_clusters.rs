//! Two clusters at the same time, one of them with IPv6: neither disturbs the other, and certificates of one are not
//! taken by the other.

use std::{net::SocketAddr, time::Duration};

use nullius_testkit::{Api, Cluster, ClusterConfig, Profile, Progress, up_all, wait_until};

use crate::{Turn, page_pod};

#[test]
fn two_clusters_run_side_by_side() {
    let Some(turn) = Turn::wait() else {
        return;
    };
    let configs = vec![
        ClusterConfig::new("east", Profile::Standard),
        ClusterConfig::new("west", Profile::DualStack),
    ];
    let clusters = up_all(&turn.state, configs, Progress::Lines).unwrap();
    let [east, west] = &clusters[..] else {
        panic!("two clusters were asked for");
    };
    for cluster in [east, west] {
        let namespace = cluster.namespace("pair").unwrap();
        namespace.apply(&page_pod("a", "node1")).unwrap();
        namespace.kubectl(&["wait", "pod/a", "--for=condition=Ready", "--timeout=180s"]).unwrap();
    }
    let status = turn.state.status().unwrap();
    let states: Vec<_> = status.iter().map(|status| (status.name.as_str(), status.state)).collect();
    assert_eq!(states, [("east", "ready"), ("west", "ready")]);

    pods_and_services_have_both_families(west);
    kubelets_are_verified(east, west);
    a_cluster_can_be_brought_along(east);

    east.down().unwrap();
    assert!(west.is_ready(), "ending one cluster leaves the other alone");
    assert!(!east.is_ready());
}

/// What `--kubeconfig FILE` takes: used like our own, and never ended by us.
fn a_cluster_can_be_brought_along(east: &Cluster) {
    let external = Cluster::external(east.kubeconfig()).unwrap();
    assert_eq!(external.record().server, east.record().server);
    assert_eq!(external.record().kubernetes, east.record().kubernetes);
    assert!(external.record().nodes.is_empty() && external.processes().is_empty());
    let namespace = external.namespace("external").unwrap();
    assert!(namespace.kubectl(&["get", "serviceaccounts"]).unwrap().contains("default"));
    external.down().unwrap();
    assert!(external.is_ready());
    let refused = Cluster::external("/dev/null".as_ref()).unwrap_err().to_string();
    assert!(refused.contains("no current context"), "{refused}");
}

fn pods_and_services_have_both_families(cluster: &Cluster) {
    let namespace = cluster.namespace("families").unwrap();
    namespace.apply(&page_pod("v6", "node1")).unwrap();
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: page}\nspec: {ipFamilyPolicy: RequireDualStack, \
                   selector: {app: page}, ports: [{port: 80, targetPort: 8080}]}\n";
    namespace.apply(service).unwrap();
    namespace.kubectl(&["wait", "pod/v6", "--for=condition=Ready", "--timeout=180s"]).unwrap();
    let family = |what: &str, path: &str| namespace.kubectl(&["get", what, "-o", path]).unwrap();
    let pod = family("pod/v6", "jsonpath={.status.podIPs[*].ip}");
    assert!(pod.contains('.') && pod.contains(':'), "{pod}");
    let service = family("service/page", "jsonpath={.spec.clusterIPs[*]}");
    assert!(service.contains('.') && service.contains(':'), "{service}");
    // From the host to the pod over IPv6: real packets.
    let v6 = pod.split(' ').find(|address| address.contains(':')).unwrap();
    // Its container runs; what is in it listens a moment later.
    wait_until(Duration::from_secs(120), "the pod to listen", || {
        std::net::TcpStream::connect((v6, 8080)).ok()
    })
    .unwrap();
}

/// A kubelet shows a certificate of its own cluster's authority; an API server takes no other.
fn kubelets_are_verified(east: &Cluster, west: &Cluster) {
    let kubelet = SocketAddr::new(east.record().nodes[0].addresses[0], 10250);
    let healthy = |authority: &str| {
        let file = |name: &str| east.file(name).unwrap();
        Api::new(kubelet, &file(authority), &file("pki/admin.crt"), &file("pki/admin.key"))
            .unwrap()
            .get("/healthz")
    };
    assert_eq!(healthy("pki/ca.crt").unwrap().text(), "ok");
    let refused = healthy("pki/front-proxy-ca.crt").unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");

    // West is told that a node of its own stands where east's kubelet answers.
    let namespace = west.namespace("impostor").unwrap();
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: impostor}\n";
    west.kubectl().unwrap().apply(node).unwrap();
    let status = format!(
        r#"{{"status": {{"addresses": [{{"type": "InternalIP", "address": "{}"}}],
            "daemonEndpoints": {{"kubeletEndpoint": {{"Port": 10250}}}}}}}}"#,
        kubelet.ip()
    );
    let patch =
        ["patch", "node", "impostor", "--subresource=status", "--type=merge", "-p", &status];
    namespace.kubectl(&patch).unwrap();
    namespace.apply(&page_pod("lost", "impostor")).unwrap();
    let logs = namespace.run(&["logs", "lost"]).unwrap();
    assert!(logs.stderr.contains("certificate signed by unknown authority"), "{logs:?}");
}
