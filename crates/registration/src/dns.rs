//! DNS names that a namespace may have in certificates: those of its own Services.

/// Why a name is none of these; `namespace` is where it is asked for.
pub(crate) fn wrong(name: &str, namespace: &str) -> Option<String> {
    if !is_name(name) {
        return Some(
            "use lower-case letters, digits, `-` and `.`, 253 characters at most".to_owned(),
        );
    }
    let below_svc = name.strip_suffix(".svc.cluster.local").or_else(|| name.strip_suffix(".svc"));
    let service = below_svc.unwrap_or(name);
    match service.strip_suffix(namespace).and_then(|rest| rest.strip_suffix('.')) {
        // A namespace may be called `com`: a name of two labels is no name on the internet that anybody serves.
        Some(rest) if below_svc.is_some() && !rest.is_empty() => None,
        Some(rest) if !rest.is_empty() && !rest.contains('.') => None,
        _ => Some(format!(
            "a certificate of this namespace may name its own Services: `NAME.{namespace}`, `NAME.{namespace}.svc` or `NAME.{namespace}.svc.cluster.local`"
        )),
    }
}

/// RFC 1123, section 2.1, in lower case and without wildcards.
fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(legal)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_name_services_of_their_namespace_and_nothing_else() {
        for good in ["a.shop", "a.shop.svc", "a.b.shop.svc", "a.shop.svc.cluster.local"] {
            assert_eq!(wrong(good, "shop"), None, "{good}");
        }
        assert!(wrong("www.example.com", "com").is_some(), "a namespace may be called so");
        assert!(wrong("10-0-0-5.bank.pod.cluster.local", "local").is_some());
        for bad in [
            "",
            "shop",
            ".shop",
            "shop.svc",
            "a.bank.svc",
            "a.shop.svc.example.org",
            "a.workshop",
            "A.shop",
            "*.shop",
            "a_b.shop",
            "kubernetes.default.svc",
            "a..shop",
            "a.shop.",
            "-a.shop",
        ] {
            assert!(wrong(bad, "shop").is_some(), "{bad}");
        }
    }
}
