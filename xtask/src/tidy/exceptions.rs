//! Exceptions from the lints against panics, in crates on the way of a decision: each is known here, by place.

use super::code_lines;

/// Lints whose exceptions can end a decision with a panic.
const LINTS: &[&str] = &[
    "clippy::expect_used",
    "clippy::indexing_slicing",
    "clippy::panic",
    "clippy::unreachable",
    "clippy::unwrap_used",
];

/// Exceptions that are proven where they stand. The list only becomes shorter.
const PROVEN: &[(&str, &str)] = &[
    ("crates/hub/src/limits/source.rs", "clippy::indexing_slicing"),
    ("crates/hub/src/record.rs", "clippy::expect_used"),
    ("crates/hub/src/web/pages/forms.rs", "clippy::expect_used"),
    ("crates/pki/src/jws.rs", "clippy::expect_used"),
    ("crates/pki/src/random.rs", "clippy::expect_used"),
];

/// Adds what a file excepts beyond what is proven.
pub(super) fn check(place: &str, product: &str, findings: &mut Vec<String>) {
    let mut proven: Vec<_> =
        PROVEN.iter().filter(|(file, _)| *file == place).map(|(_, lint)| *lint).collect();
    for lint in of(product) {
        match proven.iter().position(|known| *known == lint) {
            Some(known) => drop(proven.swap_remove(known)),
            None => findings.push(format!("{place} excepts `{lint}` on the way of a decision")),
        }
    }
    for lint in proven {
        findings.push(format!("{place} excepts `{lint}` no more: take it out of PROVEN"));
    }
}

/// The lints that attributes of a text switch off, `allow` and `expect` alike, on one line or on many.
fn of(product: &str) -> Vec<&'static str> {
    let code: Vec<&str> = code_lines(product).map(|(_, line)| line).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for attribute in code.split("#").filter(|text| text.starts_with('[') || text.starts_with("!["))
    {
        // What is for tests alone does not ship.
        if attribute.contains("cfg_attr(test,") {
            continue;
        }
        let end = attribute.find(']').unwrap_or(attribute.len());
        let Some(start) = ["allow(", "expect("].iter().find_map(|word| attribute[..end].find(word))
        else {
            continue;
        };
        let words =
            attribute[start..end].split(|c: char| !(c.is_alphanumeric() || "_:".contains(c)));
        found.extend(words.filter_map(|word| LINTS.iter().find(|lint| **lint == word)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_exception_is_found() {
        for (text, lints) in [
            ("#[allow(clippy::unwrap_used)]\nfn f() {}", &["clippy::unwrap_used"][..]),
            ("#![allow(clippy::panic, reason = \"x\")]", &["clippy::panic"]),
            ("#[expect(clippy::expect_used, reason = \"x\")]", &["clippy::expect_used"]),
            (
                "#[expect(\n    clippy::indexing_slicing,\n    clippy::panic,\n    reason = \"x\"\n)]",
                &["clippy::indexing_slicing", "clippy::panic"],
            ),
            ("#[cfg_attr(unix, allow(clippy::unwrap_used))]", &["clippy::unwrap_used"]),
            ("#![cfg_attr(test, allow(clippy::unwrap_used))]", &[]),
            ("#[expect(clippy::cast_sign_loss, reason = \"no clippy\")]", &[]),
            ("let x = y.expect(\"a panic\");", &[]),
            ("// #[allow(clippy::panic)]", &[]),
        ] {
            assert_eq!(of(text), lints, "{text}");
        }
    }

    #[test]
    fn an_exception_is_known_or_told_and_one_that_is_gone_is_told_too() {
        let findings = |place: &str, text: &str| {
            let mut findings = Vec::new();
            check(place, text, &mut findings);
            findings.len()
        };
        let attribute = "#[expect(clippy::expect_used, reason = \"x\")]\n";
        assert_eq!(findings("crates/pki/src/random.rs", attribute), 0);
        assert_eq!(findings("crates/pki/src/random.rs", &attribute.repeat(2)), 1);
        assert_eq!(findings("crates/pki/src/random.rs", ""), 1);
        assert_eq!(findings("crates/access/src/lib.rs", attribute), 1);
    }
}
