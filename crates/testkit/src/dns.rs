//! The cluster's DNS: CoreDNS as a Deployment, the way that distributions ship it.

use anyhow::Result;

use crate::{
    api::Api,
    control_plane::ControlPlane,
    image::{File, Image},
    kubectl::Kubectl,
    programs::Programs,
};

const MANIFEST: &str = include_str!("../../../dev/cluster/dns.yaml");

/// The image that the manifest names.
pub(crate) fn image(programs: &Programs) -> Image {
    Image::new("localhost/nullius-coredns:1", &["/coredns"])
        .with("/coredns", File::program(programs.coredns()))
}

/// Creates everything that the DNS consists of.
pub(crate) fn deploy(control_plane: &ControlPlane<'_>) -> Result<()> {
    let address = control_plane.plan.dns_service().to_string();
    let kubeconfig = control_plane.kubeconfig("admin");
    let kubectl = Kubectl::new(control_plane.programs.kubectl(), &kubeconfig);
    kubectl.apply(&MANIFEST.replace("${ADDRESS}", &address))?;
    Ok(())
}

/// Whether a DNS server answers.
pub(crate) fn is_ready(api: &Api) -> bool {
    let deployment = api.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns");
    let deployment = deployment.and_then(|response| response.json());
    deployment.is_ok_and(|deployment| {
        deployment.pointer("/status/availableReplicas").is_some_and(|count| count != 0)
    })
}
