//! Files of `/proc/PID`, read in one way.

/// What `stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Whether it still runs; a zombie does not.
    pub(crate) is_alive: bool,
    /// When it began, in ticks since the system began.
    pub(crate) started: u64,
}

/// Reads `stat`. The name of the program stands in brackets and may hold anything, brackets too.
pub(crate) fn stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    // Fields are counted from 1; the state is the third, the start the 22nd.
    let started = fields.nth(18)?.parse().ok()?;
    Some(Stat { is_alive: !matches!(state, "Z" | "X" | "x"), started })
}

/// The effective user and group, from `status`.
pub(crate) fn owner(text: &str) -> Option<(u32, u32)> {
    let effective = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    Some((effective("Uid:")?, effective("Gid:")?))
}

/// The process that a descriptor of a process is for, from `fdinfo`; nothing where it is gone.
pub(crate) fn process_of_descriptor(text: &str) -> Option<i32> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    line.trim().parse().ok().filter(|pid| *pid > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_process_is_read() {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
        let own = stat(&read("stat")).unwrap();
        assert!(own.is_alive && own.started > 0);
        let user = rustix::process::geteuid().as_raw();
        assert_eq!(owner(&read("status")).unwrap().0, user);
        assert_eq!(process_of_descriptor("pos:\t0\nPid:\t17\nNSpid:\t17\n"), Some(17));
        assert_eq!(process_of_descriptor("pos:\t0\nPid:\t-1\n"), None);
        assert_eq!(process_of_descriptor("pos:\t0\n"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// No name of a program moves the fields.
        #[test]
        fn the_name_says_nothing(name in "\\PC{0,15}", started in any::<u64>(), state in "[RSDZXx]") {
            let before = vec!["0"; 18].join(" ");
            let text = format!("17 ({name}) {state} {before} {started} 1 2 3");
            let expected = Stat { is_alive: !"ZXx".contains(&state), started };
            prop_assert_eq!(stat(&text), Some(expected));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,80}", lines in "((Uid:|Gid:|Pid:)[\t 0-9-]{0,20}\n){0,4}") {
            let _ = (stat(&text), owner(&text), process_of_descriptor(&text));
            let _ = (stat(&lines), owner(&lines), process_of_descriptor(&lines));
        }
    }
}
