//! Manifests of real applications, which are data beside the workspace or in `$NULLIUS_CONFORMANCE`.

use std::{
    env, io,
    path::{Path, PathBuf},
};

use nullius_admission::{Policies, Scan, ScanFault, Sender, Waivers};
use nullius_manifest::walk;
use nullius_policy::admission_policy::Version;

#[test]
fn manifests_of_real_applications_are_scanned_without_a_panic() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let folder =
        env::var_os("NULLIUS_CONFORMANCE").map_or_else(beside, PathBuf::from).join("manifests");
    if !folder.is_dir() {
        nullius_skip::skip_without_data(&format!(
            "no manifests in {}: set NULLIUS_CONFORMANCE to the folder of the conformance data",
            folder.display()
        ));
        return;
    }
    let mut scan =
        Scan::new("restricted".parse().unwrap(), Waivers::default(), "2026-11-21".parse().unwrap())
            .with_policies(
                Policies::new(Version::LATEST).with_practice(&Default::default()),
                Sender::default(),
            );
    walk(&[folder], &mut io::empty(), &mut |source| scan.source(source));
    let report = scan.finish();
    // Templates of charts cannot be read, and one manifest has a key twice, which strict servers refuse too.
    let explained =
        |message: &str| message.contains("template") || message.ends_with("stands twice");
    let told = |error: &ScanFault| {
        let file = Path::new(&error.file).file_name().unwrap_or_default().to_string_lossy();
        format!("{file}:{}: {}", error.line.unwrap_or_default(), error.message)
    };
    let not_taken: Vec<_> =
        report.errors.iter().filter(|error| !explained(&error.message)).map(told).collect();
    // Each is one that an API server refuses too: misspelt, of the wrong type, of old versions, a patch.
    assert_eq!(
        not_taken,
        [
            "storageclass-account-hdd.yaml:1: Kubernetes v1.36 has no kind `StorageClass` in `storage.k8s.io/v1beta1`",
            "storageclass-dedicated-hdd.yaml:1: Kubernetes v1.36 has no kind `StorageClass` in `storage.k8s.io/v1beta1`",
            "storageclass-shared-hdd.yaml:1: Kubernetes v1.36 has no kind `StorageClass` in `storage.k8s.io/v1beta1`",
            "storageclass-shared-ssd.yaml:1: Kubernetes v1.36 has no kind `StorageClass` in `storage.k8s.io/v1beta1`",
            "storageclass-managed-hdd.yaml:1: Kubernetes v1.36 has no kind `StorageClass` in `storage.k8s.io/v1beta1`",
            "storageclass-managed-ssd.yaml:1: Kubernetes v1.36 has no kind `StorageClass` in `storage.k8s.io/v1beta1`",
            "fc.yaml:17: `spec.volumes[0].fc.lun` must be a whole number, not text",
            "ds.yaml:1: Kubernetes v1.36 does not serve `DaemonSet` in `extensions/v1beta1` any more",
            "rbd.yaml:25: unknown field `spec.volumes[0].rbd.imageformat` in a `Pod` of Kubernetes v1.36",
            "rbd.yaml:26: unknown field `spec.volumes[0].rbd.imagefeatures` in a `Pod` of Kubernetes v1.36",
            "pod.yaml:17: unknown field `spec.volumes[0].scaleIO.protectionDoamin` in a `Pod` of Kubernetes v1.36",
            "storageos-pod.yaml:35: unknown field `spec.volumes[0].storageos.pool` in a `Pod` of Kubernetes v1.36",
            "storageos-pv.yaml:22: unknown field `spec.storageos.secretName` in a `PersistentVolume` of Kubernetes v1.36",
            "delete-loadgenerator.patch.yaml:5: unknown field `$patch` in a `Deployment` of Kubernetes v1.36",
        ]
    );
    assert!(report.counts.objects > 300 && report.counts.checked > 100, "{:?}", report.counts);
    assert!(report.findings.iter().any(|finding| finding.check == "privileged"));
    for finding in &report.findings {
        assert!(!finding.path.is_empty() && !finding.fix.is_empty(), "{finding:?}");
        // Good practice finds things, it never fails at them.
        assert!(!finding.message.contains("resulted in error"), "{finding:?}");
    }
}
