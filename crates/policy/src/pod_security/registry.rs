//! Which checks count at which level and version.
//!
//! A restricted check may replace a baseline one; from the version on in which it does, only it is reported. Checks
//! are reported by id, baseline ones first.

use std::fmt;

use serde::Serialize;

use super::{
    checks,
    evaluation::Forbidden,
    level::{Level, LevelVersion},
    pod::Pod,
};

/// The name of a check, as Kubernetes gives it: `hostNamespaces`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct CheckId(pub(super) &'static str);

impl CheckId {
    /// The name.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for CheckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// One rule of the standards through its versions.
#[derive(Debug)]
pub struct Check {
    /// Its name.
    pub id: CheckId,
    /// The level that has it; stricter levels have it too.
    pub level: Level,
    /// One sentence: what it asks for, and why.
    pub about: &'static str,
    pub(super) revisions: &'static [Revision],
}

/// A check from one version on.
#[derive(Debug)]
pub(super) struct Revision {
    /// The minor version.
    pub(super) since: u64,
    pub(super) judge: fn(&Pod<'_>) -> Option<Forbidden>,
    /// The baseline check that is not reported beside it.
    pub(super) replaces: Option<CheckId>,
}

impl Check {
    fn revision(&self, minor: u64) -> Option<&Revision> {
        self.revisions.iter().rev().find(|revision| revision.since <= minor)
    }

    /// The first minor version that has it.
    pub fn since(&self) -> u64 {
        self.revisions.first().map_or(0, |revision| revision.since)
    }
}

/// All checks in the order in which they are reported.
static CHECKS: [&Check; 19] = [
    &checks::app_armor_profile::CHECK,
    &checks::capabilities_baseline::CHECK,
    &checks::host_namespaces::CHECK,
    &checks::host_path_volumes::CHECK,
    &checks::host_ports::CHECK,
    &checks::host_probes_and_host_lifecycle::CHECK,
    &checks::privileged::CHECK,
    &checks::proc_mount::CHECK,
    &checks::se_linux_options::CHECK,
    &checks::seccomp_profile_baseline::CHECK,
    &checks::sysctls::CHECK,
    &checks::windows_host_process::CHECK,
    &checks::allow_privilege_escalation::CHECK,
    &checks::capabilities_restricted::CHECK,
    &checks::proc_mount_restricted::CHECK,
    &checks::restricted_volumes::CHECK,
    &checks::run_as_non_root::CHECK,
    &checks::run_as_user::CHECK,
    &checks::seccomp_profile_restricted::CHECK,
];

/// All checks in the order in which they are reported.
pub fn all_checks() -> impl Iterator<Item = &'static Check> {
    CHECKS.iter().copied()
}

/// The checks that count, each as of the version, on a server that knows the rules up to `newest`.
pub(super) fn active(
    policy: LevelVersion,
    newest: u64,
) -> impl Iterator<Item = (&'static Check, &'static Revision)> {
    let minor = policy.version.rules_of(newest);
    let in_force = move || {
        all_checks()
            .filter(move |check| check.level <= policy.level)
            .filter_map(move |check| Some((check, check.revision(minor)?)))
    };
    in_force().filter(move |(check, _)| {
        !in_force().any(|(_, revision)| revision.replaces == Some(check.id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod_security::level::Version;

    fn ids(policy: &str) -> Vec<&'static str> {
        let policy: LevelVersion = policy
            .parse()
            .unwrap_or(LevelVersion { level: Level::Privileged, version: Version::Latest });
        active(policy, Version::NEWEST_KNOWN).map(|(check, _)| check.id.as_str()).collect()
    }

    #[test]
    fn the_table_is_in_the_order_of_kubernetes() {
        let order: Vec<_> = all_checks().map(|check| (check.level, check.id)).collect();
        let mut sorted = order.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(order, sorted);
        for check in all_checks() {
            assert!(check.revisions.is_sorted_by(|a, b| a.since < b.since), "{}", check.id);
            let replaces = check.revisions.iter().any(|revision| revision.replaces.is_some());
            assert!(!replaces || check.level == Level::Restricted, "{}", check.id);
        }
    }

    #[test]
    fn restricted_checks_replace_baseline_ones_from_their_version_on() {
        assert_eq!(ids("privileged"), [""; 0]);
        let early = ids("restricted:v1.7");
        assert!(early.contains(&"restrictedVolumes") && !early.contains(&"hostPathVolumes"));
        assert!(early.contains(&"capabilities_baseline"));
        assert!(!early.contains(&"allowPrivilegeEscalation"));
        let late = ids("restricted");
        for replaced in
            ["hostPathVolumes", "capabilities_baseline", "procMount", "seccompProfile_baseline"]
        {
            assert!(!late.contains(&replaced), "{replaced}");
            assert!(ids("baseline").contains(&replaced), "{replaced}");
        }
        assert!(ids("restricted:v1.34").contains(&"procMount"));
        assert_eq!(ids("restricted:v1.37"), ids("restricted:v1.99"));
        assert_eq!(ids("baseline:v1.33").len() + 1, ids("baseline:v1.34").len());
    }
}
