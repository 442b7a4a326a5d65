//! What the kubelet asks for, read in one way: pure.

use std::path::{Component, Path, PathBuf};

use nullius_proto::csi_v1::{
    NodePublishVolumeRequest, NodeUnpublishVolumeRequest, VolumeCapability,
    volume_capability::{AccessType, MountVolume},
};

/// Where the kubelet says that a volume is written in a pod, and goes with it.
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";
/// `UID/volumes/kubernetes.io~csi/NAME/mount`.
const DEPTH: usize = 5;
const PLUGIN: &str = "kubernetes.io~csi";
/// The attribute of a volume that says for whom it is.
const FOR: &str = "for";
/// For the proxy beside a pod's containers.
const PROXY: &str = "proxy";

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// The socket of the Workload API.
    Identity,
    /// The node's socket for proxies.
    Proxy,
}

/// Why a volume is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the request has no volume id")]
    Nameless,
    #[error("the volume is not one of a pod: name the driver in `spec.volumes[].csi` of the pod")]
    NotEphemeral,
    #[error("the volume must have `readOnly: true`")]
    Writable,
    #[error("the volume is asked for as a block device, and it is a directory")]
    Block,
    #[error("the volume has a file system, options or a group, and it is a directory as it is")]
    Options,
    #[error("the volume is to be staged, and nothing is")]
    Staged,
    #[error(
        "the volume has an attribute or a Secret that the driver does not know: `{0}`; it knows `for: proxy`"
    )]
    Attribute(String),
    #[error(
        "the volume is for a proxy of the mesh, and this node has none: join the cluster with `--identity --mesh`"
    )]
    NoMesh,
    #[error(
        "`{0}` is no place of a volume of a pod below the kubelet's root directory; see `NULLIUS_KUBELET`"
    )]
    Target(String),
}

/// Where a volume is to be mounted, if it is one that there is.
pub(super) fn published(
    request: &NodePublishVolumeRequest,
    pods: &Path,
) -> Result<(PathBuf, Holds), Refusal> {
    if request.volume_id.is_empty() {
        return Err(Refusal::Nameless);
    }
    if request.volume_context.get(EPHEMERAL).map(String::as_str) != Some("true") {
        return Err(Refusal::NotEphemeral);
    }
    if !request.readonly {
        return Err(Refusal::Writable);
    }
    if !request.staging_target_path.is_empty() || !request.publish_context.is_empty() {
        return Err(Refusal::Staged);
    }
    plain(request.volume_capability.as_ref())?;
    // What the kubelet says of the pod has a prefix; anything else somebody wrote, and meant something by it.
    let is_own = |name: &&String| !name.starts_with("csi.storage.k8s.io/");
    let mut written = request.volume_context.keys().filter(is_own);
    let is_for_proxy = request.volume_context.get(FOR).map(String::as_str) == Some(PROXY);
    let odd = written.find(|name| *name != FOR || !is_for_proxy);
    if let Some(name) = odd.or_else(|| request.secrets.keys().next()) {
        return Err(Refusal::Attribute(shown(name)));
    }
    let holds = if is_for_proxy { Holds::Proxy } else { Holds::Identity };
    Ok((target(&request.target_path, pods)?, holds))
}

/// Where a volume is to be taken away.
pub(super) fn unpublished(
    request: &NodeUnpublishVolumeRequest,
    pods: &Path,
) -> Result<PathBuf, Refusal> {
    match request.volume_id.is_empty() {
        true => Err(Refusal::Nameless),
        false => target(&request.target_path, pods),
    }
}

fn plain(capability: Option<&VolumeCapability>) -> Result<(), Refusal> {
    match capability.and_then(|capability| capability.access_type.as_ref()) {
        Some(AccessType::Mount(MountVolume { fs_type, mount_flags, volume_mount_group })) => {
            let is_plain =
                fs_type.is_empty() && mount_flags.is_empty() && volume_mount_group.is_empty();
            if is_plain { Ok(()) } else { Err(Refusal::Options) }
        }
        Some(AccessType::Block(_)) | None => Err(Refusal::Block),
    }
}

/// The kubelet alone calls, but nothing is mounted or removed elsewhere than it keeps volumes of pods.
fn target(path: &str, pods: &Path) -> Result<PathBuf, Refusal> {
    let refused = || Refusal::Target(shown(path));
    let below = Path::new(path).strip_prefix(pods).map_err(|_| refused())?;
    let parts: Vec<&str> = below
        .components()
        .map(|part| match part {
            Component::Normal(name) => name.to_str().ok_or_else(refused),
            _ => Err(refused()),
        })
        .collect::<Result<_, _>>()?;
    let is_volume =
        matches!(parts.as_slice(), [_, "volumes", plugin, _, "mount"] if *plugin == PLUGIN);
    match is_volume && parts.len() == DEPTH {
        true => Ok(pods.join(below)),
        false => Err(refused()),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(300).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_proto::csi_v1::volume_capability::BlockVolume;

    use super::*;

    const PODS: &str = "/var/lib/kubelet/pods";
    const TARGET: &str = "/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~csi/identity/mount";

    fn request() -> NodePublishVolumeRequest {
        let context = [(EPHEMERAL, "true"), ("csi.storage.k8s.io/pod.uid", "0a1b")];
        let mount = AccessType::Mount(MountVolume::default());
        NodePublishVolumeRequest {
            volume_id: "csi-1".to_owned(),
            target_path: TARGET.to_owned(),
            volume_capability: Some(VolumeCapability {
                access_type: Some(mount),
                access_mode: None,
            }),
            readonly: true,
            volume_context: context.map(|(name, value)| (name.into(), value.into())).into(),
            ..NodePublishVolumeRequest::default()
        }
    }

    #[test]
    fn a_read_only_volume_of_a_pod_is_mounted_and_no_other() {
        let (identity, proxy) = (request(), {
            let mut request = request();
            request.volume_context.insert(FOR.into(), PROXY.into());
            request
        });
        for (request, holds) in [(identity, Holds::Identity), (proxy, Holds::Proxy)] {
            assert_eq!(published(&request, Path::new(PODS)).unwrap(), (TARGET.into(), holds));
        }
        let refused = |change: &dyn Fn(&mut NodePublishVolumeRequest)| {
            let mut request = request();
            change(&mut request);
            published(&request, Path::new(PODS)).unwrap_err()
        };
        let capability = |access_type| Some(VolumeCapability { access_type, access_mode: None });
        assert_eq!(refused(&|it| it.volume_id.clear()), Refusal::Nameless);
        assert_eq!(refused(&|it| it.volume_context.clear()), Refusal::NotEphemeral);
        let lasting = |it: &mut NodePublishVolumeRequest| {
            it.volume_context.insert(EPHEMERAL.into(), "false".into());
        };
        assert_eq!(refused(&lasting), Refusal::NotEphemeral);
        assert_eq!(refused(&|it| it.readonly = false), Refusal::Writable);
        assert_eq!(refused(&|it| it.volume_capability = None), Refusal::Block);
        let block = |it: &mut NodePublishVolumeRequest| {
            it.volume_capability = capability(Some(AccessType::Block(BlockVolume {})));
        };
        assert_eq!(refused(&block), Refusal::Block);
        for mount in [
            MountVolume { fs_type: "ext4".to_owned(), ..MountVolume::default() },
            MountVolume { mount_flags: vec!["exec".to_owned()], ..MountVolume::default() },
            MountVolume { volume_mount_group: "7".to_owned(), ..MountVolume::default() },
        ] {
            let mount = |it: &mut NodePublishVolumeRequest| {
                it.volume_capability = capability(Some(AccessType::Mount(mount.clone())));
            };
            assert_eq!(refused(&mount), Refusal::Options);
        }
        assert_eq!(refused(&|it| it.staging_target_path = "/a".to_owned()), Refusal::Staged);
        let attribute = |it: &mut NodePublishVolumeRequest| {
            it.volume_context.insert("path".into(), "/".into());
        };
        assert_eq!(refused(&attribute), Refusal::Attribute("path".to_owned()));
        let secret = |it: &mut NodePublishVolumeRequest| {
            it.secrets.insert("token".into(), "t".into());
        };
        assert_eq!(refused(&secret), Refusal::Attribute("token".to_owned()));
    }

    #[test]
    fn nothing_is_touched_outside_of_the_volumes_of_pods() {
        for path in [
            "",
            "/",
            "/etc",
            PODS,
            "/var/lib/kubelet/pods/0a1b",
            "/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~csi/identity",
            "/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~secret/identity/mount",
            "/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~csi/identity/mount/x",
            "/var/lib/kubelet/pods/../volumes/kubernetes.io~csi/identity/mount",
            "/var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~csi/../mount",
            "/var/lib/kubelet/podsx/0a1b/volumes/kubernetes.io~csi/identity/mount",
            "var/lib/kubelet/pods/0a1b/volumes/kubernetes.io~csi/identity/mount",
        ] {
            let request = NodeUnpublishVolumeRequest {
                volume_id: "csi-1".to_owned(),
                target_path: path.to_owned(),
            };
            let refused = unpublished(&request, Path::new(PODS));
            assert_eq!(refused, Err(Refusal::Target(path.to_owned())), "{path}");
        }
    }
}
