//! The node as a CSI driver: what the kubelet asks of it, over its own sockets, with real mounts.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use hyper_util::rt::TokioIo;
use nullius_proto::{
    csi_v1::{
        GetPluginInfoRequest, NodeGetInfoRequest, NodePublishVolumeRequest,
        NodeUnpublishVolumeRequest, VolumeCapability,
        identity_client::IdentityClient,
        node_client::NodeClient,
        volume_capability::{AccessType, MountVolume},
    },
    plugin_registration::{
        InfoRequest, RegistrationStatus, registration_client::RegistrationClient,
    },
};
use tokio::net::UnixStream;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};

use crate::{
    agent::{AGENT, Authority},
    node::{Host, serve_agent},
};

async fn channel(path: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: hyper::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://kubelet");
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        loop {
            match endpoint.connect_with_connector(connector.clone()).await {
                Ok(channel) => return channel,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    })
    .await
    .expect("the socket is there in time")
}

fn publish(target: &Path) -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: "csi-1".to_owned(),
        target_path: target.to_str().unwrap().to_owned(),
        volume_capability: Some(VolumeCapability {
            access_type: Some(AccessType::Mount(MountVolume::default())),
            access_mode: None,
        }),
        readonly: true,
        volume_context: HashMap::from([(
            "csi.storage.k8s.io/ephemeral".to_owned(),
            "true".to_owned(),
        )]),
        ..NodePublishVolumeRequest::default()
    }
}

fn mounts(target: &Path) -> usize {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let target = target.to_str().unwrap();
    all.lines().filter(|line| line.split(' ').nth(4) == Some(target)).count()
}

#[tokio::test]
async fn the_kubelet_mounts_the_socket_as_often_as_it_likes_and_takes_it_away() {
    if !rustix::process::geteuid().is_root() {
        nullius_skip::skip("it mounts, for which it needs root");
        return;
    }
    let authority = Authority::create();
    let own = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
    let first = authority.registrations(&[("1", "/ns/shop/sa/front", &own)]);
    let agent = serve_agent(&authority, AGENT, first).await;
    let host = Host::create(&authority.bundle(), agent.address);
    let node = host.start(Some("kubelet"));

    let registry = host.path("kubelet/plugins_registry/csi.nullius.dev-reg.sock");
    let mut registration = RegistrationClient::new(channel(registry.clone()).await);
    let info = registration.get_info(InfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.r#type.as_str(), info.name.as_str()), ("CSIPlugin", "csi.nullius.dev"));
    assert_eq!(info.supported_versions, ["1.0.0"]);
    assert_eq!(fs::metadata(&registry).unwrap().mode() & 0o077, 0, "it is root's alone");
    host.identities().await;
    let (status, why) = host.page("/readyz").await.unwrap();
    assert_eq!((status, why.as_str()), (503, "the kubelet does not know the CSI driver yet"));
    let known = RegistrationStatus { plugin_registered: true, error: String::new() };
    registration.notify_registration_status(known).await.unwrap();
    host.is_ready().await;

    let driver = channel(info.endpoint.into()).await;
    let plugin = IdentityClient::new(driver.clone());
    let plugin = { plugin }.get_plugin_info(GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(plugin.name, "csi.nullius.dev");
    let mut volumes = NodeClient::new(driver);
    let named = volumes.node_get_info(NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(named.node_id, "n1");

    // The kubelet makes the folder of the volume, the driver the place in it.
    let volume = host.path("kubelet/pods/0a1b/volumes/kubernetes.io~csi/identity");
    fs::create_dir_all(&volume).unwrap();
    let target = volume.join("mount");
    let writable = NodePublishVolumeRequest { readonly: false, ..publish(&target) };
    let refused = volumes.node_publish_volume(writable).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(!target.exists());
    for _ in 0..2 {
        volumes.node_publish_volume(publish(&target)).await.unwrap();
        assert_eq!(mounts(&target), 1);
    }
    let refused = fs::write(target.join("file"), "x").unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(target.join("api.sock")), inode(host.socket()));

    // The next node's socket is seen through the same mount.
    let before = inode(host.socket());
    node.stop().await;
    assert!(!target.join("api.sock").exists() && !registry.exists());
    let node = host.start(Some("kubelet"));
    host.identities().await;
    assert_eq!(inode(target.join("api.sock")), inode(host.socket()));
    assert!(mounts(&target) == 1 && before > 0);
    let endpoint = target.join("api.sock").to_str().unwrap().parse().unwrap();
    let mut client = nullius_workload::Client::connect(&endpoint).await.unwrap();
    client.identities().await.unwrap().next().await.unwrap();

    let driver = channel(host.path("kubelet/plugins/csi.nullius.dev/csi.sock")).await;
    let mut volumes = NodeClient::new(driver);
    let gone = NodeUnpublishVolumeRequest {
        volume_id: "csi-1".to_owned(),
        target_path: target.to_str().unwrap().to_owned(),
    };
    for _ in 0..2 {
        volumes.node_unpublish_volume(gone.clone()).await.unwrap();
        assert!(mounts(&target) == 0 && !target.exists());
    }
    assert!(host.socket().exists(), "what was mounted is still there");
    node.stop().await;
    agent.stop().await;
}
