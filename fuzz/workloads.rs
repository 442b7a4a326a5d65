//! Where bytes of strangers meet the node: what the fuzz targets and the tests of `nullius-workload` call. None may panic, and what
//! is told must be about the input.

use nullius_workload::{
    AuthorityMender, CgroupRoot, JwtAsk, Place, SecretsAsk, ValidateAsk, place,
};

/// `/proc/PID/cgroup`, read for kubelets with and without a cgroup of their own.
pub(super) fn process_cgroups(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for root in ["/", "/kubelet", "/a/b"] {
        let Ok(root) = root.parse::<CgroupRoot>() else { panic!("`{root}` is a cgroup") };
        let told = place(text, &root);
        assert_eq!(told, place(text, &root));
        if let Ok(Place::Pod { pod, container }) = told {
            assert_eq!(pod.as_str().parse(), Ok(pod.clone()));
            assert!(text.contains(container.as_str()));
        }
    }
}

/// Requests to the Workload API and to Envoy's secret discovery.
pub(super) fn workload_request(bytes: &[u8]) {
    if let Some(Ok(ask)) = JwtAsk::read_bytes(bytes) {
        assert!((1..=16).contains(&ask.audience.len()));
        assert!(ask.audience.is_sorted());
        assert!(ask.id.is_none_or(|id| id.to_string().parse() == Ok(id)));
    }
    if let Some(Ok(ask)) = ValidateAsk::read_bytes(bytes) {
        assert!(!ask.audience.is_empty() && !ask.token.is_empty());
    }
    if let Some(Ok(ask)) = SecretsAsk::read_bytes(bytes) {
        assert!(ask.names.len() <= 128 && ask.names.is_sorted());
        assert!(ask.refusal.is_none_or(|told| !told.contains(char::is_control)));
    }
}

/// What a client sends on a connection: mended in one way however it arrives, and once for all.
pub(super) fn http2_authority(bytes: &[u8]) {
    let mended = |chunk: usize, bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let mut mender = AuthorityMender::default();
        bytes.chunks_mut(chunk).for_each(|chunk| mender.mend(chunk));
        bytes
    };
    let whole = mended(usize::MAX, bytes);
    assert_eq!(whole.len(), bytes.len());
    assert_eq!(whole, mended(1, bytes));
    assert_eq!(whole, mended(7, bytes));
    assert_eq!(whole, mended(usize::MAX, &whole));
    // A character becomes `-`; in Huffman's code a bit is set, and none is cleared.
    let mends = |(before, after): (&u8, &u8)| *after == b'-' || before & after == *before;
    assert!(bytes.iter().zip(&whole).all(mends));
}
