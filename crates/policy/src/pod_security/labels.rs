//! What the labels of a namespace ask for, also where they are wrong.

use std::{collections::BTreeMap, fmt};

use super::{
    go_text::go_quoted,
    level::{Level, LevelVersion, ParseLevelError, Version},
};

/// What a namespace asks for in each mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// Pods that break it are refused.
    pub enforce: LevelVersion,
    /// What breaks it is noted in the audit.
    pub audit: LevelVersion,
    /// Whoever makes what breaks it is warned.
    pub warn: LevelVersion,
}

/// A label whose value means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelFault {
    /// The label.
    pub label: &'static str,
    /// Its value.
    pub value: String,
    /// Why it means nothing.
    pub error: ParseLevelError,
}

impl fmt::Display for LabelFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { label, value, error } = self;
        write!(f, "metadata.labels[{label}]: Invalid value: {}: {error}", go_quoted(value))
    }
}

impl std::error::Error for LabelFault {}

/// The level and the version of a mode.
struct Labels {
    level: &'static str,
    version: &'static str,
}

/// The label that says which level is enforced.
pub const ENFORCE_LABEL: &str = "pod-security.kubernetes.io/enforce";

const ENFORCE: Labels =
    Labels { level: ENFORCE_LABEL, version: "pod-security.kubernetes.io/enforce-version" };
const AUDIT: Labels = Labels {
    level: "pod-security.kubernetes.io/audit",
    version: "pod-security.kubernetes.io/audit-version",
};
const WARN: Labels = Labels {
    level: "pod-security.kubernetes.io/warn",
    version: "pod-security.kubernetes.io/warn-version",
};

impl Default for Modes {
    /// What the API server does without configuration: nothing.
    fn default() -> Self {
        let privileged = LevelVersion { level: Level::Privileged, version: Version::Latest };
        Self { enforce: privileged, audit: privileged, warn: privileged }
    }
}

impl Modes {
    /// Reads labels over defaults. A wrong level to enforce becomes `restricted`, one to audit or warn `privileged`,
    /// a wrong version `latest`. Without a level to warn, people are warned of what is enforced.
    pub fn of_labels(labels: &BTreeMap<&str, &str>, defaults: Self) -> (Self, Vec<LabelFault>) {
        let mut faults = Vec::new();
        let mut read = |mode: LevelVersion, names: &Labels, otherwise: Level| LevelVersion {
            level: value(labels, names.level, mode.level, otherwise, &mut faults),
            version: value(labels, names.version, mode.version, Version::Latest, &mut faults),
        };
        let enforce = read(defaults.enforce, &ENFORCE, Level::Restricted);
        let audit = read(defaults.audit, &AUDIT, Level::Privileged);
        let mut warn = read(defaults.warn, &WARN, Level::Privileged);
        let asks_to_enforce =
            labels.get(ENFORCE.level).is_some_and(|level| level.parse::<Level>().is_ok());
        if asks_to_enforce && !labels.contains_key(WARN.level) && enforce.level > warn.level {
            warn.level = enforce.level;
            if !labels.contains_key(WARN.version) {
                warn.version = enforce.version;
            }
        }
        (Self { enforce, audit, warn }, faults)
    }

    /// Whether nothing is asked for in any mode.
    pub fn is_privileged(&self) -> bool {
        self.each().iter().all(|(_, _, policy)| policy.level == Level::Privileged)
    }

    /// Whether both mean the same.
    pub fn is_equivalent_to(&self, other: &Self) -> bool {
        let mut pairs = self.each().into_iter().zip(other.each());
        pairs.all(|((_, _, mine), (_, _, theirs))| mine.is_equivalent_to(theirs))
    }

    /// The modes that labels set and that ask for something: `enforce=restricted:latest, warn=…`.
    pub(super) fn set_by(&self, labels: &BTreeMap<&str, &str>) -> String {
        let is_set =
            |names: &Labels| labels.contains_key(names.level) || labels.contains_key(names.version);
        let modes = self.each().into_iter();
        modes
            .filter(|(_, names, policy)| policy.level != Level::Privileged && is_set(names))
            .map(|(mode, _, policy)| format!("{mode}={policy}"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    fn each(&self) -> [(&'static str, &'static Labels, LevelVersion); 3] {
        [
            ("enforce", &ENFORCE, self.enforce),
            ("audit", &AUDIT, self.audit),
            ("warn", &WARN, self.warn),
        ]
    }
}

fn value<T: std::str::FromStr<Err = ParseLevelError>>(
    labels: &BTreeMap<&str, &str>,
    label: &'static str,
    unset: T,
    otherwise: T,
    faults: &mut Vec<LabelFault>,
) -> T {
    let Some(value) = labels.get(label) else { return unset };
    value.parse().unwrap_or_else(|error| {
        faults.push(LabelFault { label, value: (*value).to_owned(), error });
        otherwise
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &[(&'static str, &'static str)]) -> (String, Vec<String>) {
        let labels = labels.iter().copied().collect();
        let (modes, faults) = Modes::of_labels(&labels, Modes::default());
        (
            format!("{} {} {}", modes.enforce, modes.audit, modes.warn),
            faults.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn labels_are_read_as_kubernetes_reads_them() {
        for (labels, modes) in [
            (&[][..], "privileged:latest privileged:latest privileged:latest"),
            (
                &[(ENFORCE.level, "baseline"), (ENFORCE.version, "v1.20")],
                "baseline:v1.20 privileged:latest baseline:v1.20",
            ),
            (
                &[(ENFORCE.level, "restricted"), (WARN.version, "v1.9")],
                "restricted:latest privileged:latest restricted:v1.9",
            ),
            (
                &[
                    (ENFORCE.level, "restricted"),
                    (WARN.level, "baseline"),
                    (AUDIT.level, "baseline"),
                ],
                "restricted:latest baseline:latest baseline:latest",
            ),
            (&[(ENFORCE.version, "v1.20")], "privileged:v1.20 privileged:latest privileged:latest"),
        ] {
            assert_eq!(read(labels), (modes.to_owned(), Vec::new()), "{labels:?}");
        }
    }

    #[test]
    fn wrong_labels_are_told_and_enforced_strictly() {
        let (modes, faults) =
            read(&[(ENFORCE.level, "Restricted"), (AUDIT.level, "x"), (WARN.version, "1.20")]);
        assert_eq!(modes, "restricted:latest privileged:latest privileged:latest");
        assert_eq!(
            faults,
            [
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"Restricted\": must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"x\": must be one of privileged, baseline, restricted",
                "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"1.20\": must be \"latest\" or \"v1.x\"",
            ]
        );
    }
}
