//! A cluster with DNS: Services have names.

use std::time::Duration;

use nullius_testkit::{ClusterConfig, Profile, wait_until};

use crate::{Turn, page_pod};

#[test]
fn services_have_names() {
    let Some(turn) = Turn::wait() else {
        return;
    };
    let cluster = turn.up(ClusterConfig::new("names", Profile::Dns));
    let namespace = cluster.namespace("names").unwrap();
    namespace.apply(&page_pod("a", "node1")).unwrap();
    namespace.kubectl(&["wait", "pod/a", "--for=condition=Ready", "--timeout=180s"]).unwrap();
    let address =
        ["get", "service", "-n", "default", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"];
    let address = cluster.kubectl().unwrap().ok(&address).unwrap();
    wait_until(Duration::from_secs(120), "the name of the API server's Service", || {
        let lookup = ["exec", "a", "--", "nslookup", "kubernetes.default.svc.cluster.local"];
        namespace.run(&lookup).ok().filter(|output| output.stdout.contains(&address))
    })
    .unwrap();
}
