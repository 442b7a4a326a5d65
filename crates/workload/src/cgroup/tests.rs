#![allow(clippy::unwrap_used, reason = "test")]
use proptest::prelude::*;

use super::*;

const UID: &str = "0a1b2c3d-0000-4111-8222-333344445555";
const STATIC: &str = "6d0dd7a9fb4b4f2ea5ee0b1e5bd1f1f1";
const CONTAINER: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn at(path: &str) -> Result<Place, CgroupError> {
    place(&format!("0::{path}\n"), &CgroupRoot::default())
}

fn pod(uid: &str) -> Result<Place, CgroupError> {
    Ok(Place::Pod { pod: uid.parse().unwrap(), container: CONTAINER.parse().unwrap() })
}

fn systemd(uid: &str) -> String {
    uid.replace('-', "_")
}

#[test]
fn both_drivers_and_every_runtime_name_the_pod() {
    let low = systemd(UID);
    for path in [
        format!("/kubepods/pod{UID}/{CONTAINER}"),
        format!("/kubepods/burstable/pod{UID}/{CONTAINER}"),
        format!("/kubepods/besteffort/pod{UID}/{CONTAINER}/init.scope"),
        format!("/kubepods/besteffort/pod{UID}/crio-{CONTAINER}"),
        format!("/kubepods.slice/kubepods-pod{low}.slice/cri-containerd-{CONTAINER}.scope"),
        format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{low}.slice/crio-{CONTAINER}.scope/container"
        ),
        format!(
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{low}.slice/docker-{CONTAINER}.scope"
        ),
        format!(
            "/system.slice/containerd.service/kubepods-burstable-pod{low}.slice:cri-containerd:{CONTAINER}"
        ),
        format!("/kubepods-pod{low}.slice:cri-containerd:{CONTAINER}"),
    ] {
        assert_eq!(at(&path), pod(UID), "{path}");
    }
    assert_eq!(at(&format!("/kubepods/burstable/pod{STATIC}/{CONTAINER}")), pod(STATIC));
    let slice = format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}");
    assert_eq!(at(&format!("{slice}.slice/cri-containerd-{CONTAINER}.scope")), pod(STATIC));
}

#[test]
fn a_kubelet_with_a_cgroup_of_its_own_is_found_there_alone() {
    let root: CgroupRoot = "/kubelet/a".parse().unwrap();
    let low = systemd(UID);
    let files = format!("0::/kubelet/a/kubepods/burstable/pod{UID}/{CONTAINER}");
    let slices = format!(
        "0::/kubelet.slice/kubelet-a.slice/kubelet-a-kubepods.slice/kubelet-a-kubepods-burstable.slice/kubelet-a-kubepods-burstable-pod{low}.slice/cri-containerd-{CONTAINER}.scope"
    );
    for text in [&files, &slices] {
        assert_eq!(place(text, &root), pod(UID), "{text}");
        // Elsewhere it is a container, and no pod.
        assert_eq!(place(text, &CgroupRoot::default()), Ok(Place::OtherContainer), "{text}");
    }
    assert_eq!(
        place(&format!("0::/kubepods/pod{UID}/{CONTAINER}"), &root),
        Ok(Place::OtherContainer)
    );
    for bad in ["kubelet", "", "/a//b", "/a/../b", "/a\nb"] {
        assert!(bad.parse::<CgroupRoot>().is_err(), "{bad:?}");
    }
    assert_eq!("/".parse::<CgroupRoot>().unwrap(), CgroupRoot::default());
}

#[test]
fn all_hierarchies_of_the_first_version_agree() {
    let path = format!("/kubepods/burstable/pod{UID}/{CONTAINER}");
    let text = format!("12:cpuset:{path}\n4:memory:{path}\n1:name=systemd:/system.slice\n0::/\n");
    assert_eq!(place(&text, &CgroupRoot::default()), pod(UID));
    let other = UID.replace('0', "1");
    let text = format!("4:memory:{path}\n3:pids:/kubepods/burstable/pod{other}/{CONTAINER}\n");
    assert_eq!(place(&text, &CgroupRoot::default()), Err(CgroupError::Disagree));
    assert_eq!(
        place("3:pids:/user.slice\n0::/init.scope\n", &CgroupRoot::default()),
        Ok(Place::Host)
    );
}

#[test]
fn nobody_becomes_a_pod_by_the_name_of_a_cgroup_that_they_may_make() {
    let slice = "/user.slice/user-1000.slice/user@1000.service";
    let named = format!("kubepods/burstable/pod{UID}/{CONTAINER}");
    assert_eq!(at(&format!("{slice}/{named}")), Ok(Place::OtherContainer));
    // Within a pod its own cgroup decides.
    let other = "1".repeat(CONTAINER_ID);
    let own = at(&format!("/kubepods/pod{STATIC}/{CONTAINER}/kubepods/pod{UID}/{other}"));
    assert_eq!(own, pod(STATIC));
}

#[test]
fn what_the_kubelet_does_not_make_is_nobodys() {
    let low = systemd(UID);
    for path in [
        "/kubepods".to_owned(),
        "/kubepods/burstable".to_owned(),
        format!("/kubepods/burstable/pod{UID}"),
        format!("/kubepods/guaranteed/pod{UID}/{CONTAINER}"),
        format!("/kubepods/pod{low}/{CONTAINER}"),
        format!("/kubepods/pod{UID}/crio-conmon-{CONTAINER}"),
        format!("/kubepods/pod{UID}/{}", CONTAINER.to_uppercase()),
        format!("/kubepods/pod{}/{CONTAINER}", UID.to_uppercase()),
        format!("/kubepods/pod/{CONTAINER}"),
        format!("/kubepods.slice/kubepods-pod{UID}.slice/cri-containerd-{CONTAINER}.scope"),
        format!(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-pod{low}.slice/crio-{CONTAINER}.scope"
        ),
        format!("/kubepods-burstable-pod{low}.slice:{CONTAINER}"),
        "/kubepods.slice".to_owned(),
    ] {
        assert!(matches!(at(&path), Err(CgroupError::Unclear(_))), "{path}: {:?}", at(&path));
    }
    assert!(matches!(at("/../kubepods"), Err(CgroupError::Outside(_))));
    for bad in ["", "0::", "0:/", "x::/", "::/", "0::a", "0:://a", "0::/a/"] {
        let told = place(bad, &CgroupRoot::default());
        assert_eq!(told, Err(CgroupError::Malformed), "{bad:?}");
    }
}

#[test]
fn a_container_of_something_else_is_not_the_host() {
    for path in [
        format!("/docker/{CONTAINER}"),
        format!("/system.slice/docker-{CONTAINER}.scope"),
        format!("/machine.slice/libpod-{CONTAINER}.scope/container"),
        "/lxc.payload.web/init.scope".to_owned(),
        "/machine.slice/systemd-nspawn@web.service/payload".to_owned(),
    ] {
        assert_eq!(at(&path), Ok(Place::OtherContainer), "{path}");
    }
    for path in ["/", "/init.scope", "/system.slice/ssh.service", "/user.slice/user-0.slice"] {
        assert_eq!(at(path), Ok(Place::Host), "{path}");
    }
}

fn hex_digits(count: usize) -> impl Strategy<Value = String> {
    proptest::string::string_regex(&format!("[0-9a-f]{{{count}}}")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a runtime writes is read back.
    #[test]
    fn written_is_read(a in hex_digits(8), b in hex_digits(12), id in hex_digits(64), form in 0..4_usize, below in "(/[a-z.:-]{1,9}){0,2}") {
        let uid = format!("{a}-0000-4000-8000-{b}");
        let low = systemd(&uid);
        let path = match form {
            0 => format!("/kubepods/pod{uid}/{id}"),
            1 => format!("/kubepods/besteffort/pod{uid}/crio-{id}"),
            2 => format!("/kubepods.slice/kubepods-pod{low}.slice/crio-{id}.scope"),
            _ => format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{low}.slice/cri-containerd-{id}.scope"),
        };
        prop_assume!(!below.split('/').any(|name| matches!(name, "." | "..")));
        let expected = Place::Pod { pod: uid.parse().unwrap(), container: id.parse().unwrap() };
        prop_assert_eq!(at(&format!("{path}{below}")), Ok(expected));
    }

    /// A pod is found only below the kubelet's own cgroup.
    #[test]
    fn only_the_kubelet_names_pods(before in "(/[a-z0-9.@-]{1,20}){1,3}", a in hex_digits(8), id in hex_digits(64)) {
        let path = format!("{before}/kubepods/pod{a}-0000-4000-8000-000000000000/{id}");
        prop_assume!(!before.starts_with("/kubepods") && !before.split('/').any(|name| matches!(name, "." | "..")));
        prop_assert_eq!(at(&path), Ok(Place::OtherContainer));
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,200}", lines in "([0-9]{0,2}:[a-z=]{0,8}:(/(kubepods|pod|[a-f0-9-]{1,40}|\\.\\.|[:.a-z]{0,9})){0,4}\n){0,4}") {
        for text in [text, lines] {
            let told = place(&text, &CgroupRoot::default());
            prop_assert_eq!(&told, &place(&text, &CgroupRoot::default()));
        }
    }
}
