//! Templates and durations as programs in Go write them.

use nullius_fields::shown;

/// What stands for the cluster's own trust domain.
pub(super) const OWN_DOMAIN: &str = "{trustDomain}";

/// What a template may name, and the place that is the same.
const PLACES: [(&str, &str); 4] = [
    (".TrustDomain", OWN_DOMAIN),
    (".PodMeta.Namespace", "{namespace}"),
    (".PodSpec.ServiceAccountName", "{serviceAccount}"),
    (".PodMeta.Name", "{pod}"),
];

/// A template with our places.
pub(super) fn template(text: &str) -> Result<String, String> {
    let mut done = String::new();
    let mut rest = text;
    loop {
        let (before, behind) = match rest.split_once("{{") {
            Some((before, behind)) => (before, Some(behind)),
            None => (rest, None),
        };
        if before.contains(['{', '}']) {
            return Err("a `{` or `}` stands alone".to_owned());
        }
        done.push_str(before);
        let Some(behind) = behind else { return Ok(done) };
        let (inner, after) =
            behind.split_once("}}").ok_or_else(|| "there is a `{{` without `}}`".to_owned())?;
        let place = PLACES.iter().find(|(name, _)| *name == inner.trim());
        let (_, place) = place.ok_or_else(|| {
            let known = PLACES.map(|(name, _)| format!("`{name}`")).join(", ");
            let what = shown(&format!("{{{{{inner}}}}}"));
            format!("{what} is not carried over; known are {known}")
        })?;
        done.push_str(place);
        rest = after;
    }
}

/// A duration in seconds, `1h30m`.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    whole_seconds(text).ok_or_else(|| format!("{} is no duration in whole seconds", shown(text)))
}

fn whole_seconds(text: &str) -> Option<u64> {
    let mut total = None;
    let mut rest = text;
    while !rest.is_empty() {
        let (digits, behind) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let next = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(next);
        let scale = match unit {
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            _ => return None,
        };
        let part = digits.parse::<u64>().ok()?.checked_mul(scale)?;
        total = Some(total.unwrap_or(0_u64).checked_add(part)?);
        rest = behind;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_of_go_become_places() {
        assert_eq!(
            template(
                "spiffe://{{ .TrustDomain }}/ns/{{.PodMeta.Namespace}}/sa/{{ .PodSpec.ServiceAccountName }}"
            ),
            Ok("spiffe://{trustDomain}/ns/{namespace}/sa/{serviceAccount}".to_owned())
        );
        assert_eq!(template("plain"), Ok("plain".to_owned()));
        for odd in [
            "{{ .ClusterName }}",
            "{{ .PodMeta.Name",
            "{{- .PodMeta.Name }}",
            "{x}",
            "}",
            "{{ index .PodMeta.Labels \"a\" }}",
            "{{{ .PodMeta.Name }}}",
        ] {
            assert!(template(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn durations_are_whole_seconds() {
        for (text, wanted) in [("1h", 3_600), ("1h30m0s", 5_400), ("0s", 0), ("90s", 90)] {
            assert_eq!(seconds(text), Ok(wanted), "{text}");
        }
        for odd in ["", "1", "1.5h", "100ms", "-1h", "1d", "h", "9999999999999999999h"] {
            assert!(seconds(odd).is_err(), "{odd}");
        }
    }
}
