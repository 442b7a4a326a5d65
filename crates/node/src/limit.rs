//! How many files, and so connections, this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Each call through the mesh has two; with less than this a busy node runs out.
const ENOUGH: u64 = 65_536;

/// Takes all that the system gives: container runtimes begin with 1,024, and what is dialled for one pod would take the rest from all.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let got = match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            current
        }
    };
    match got {
        Some(limit) if is_low(limit) => tracing::warn!(
            limit,
            enough = ENOUGH,
            "few files may be open at once: raise `LimitNOFILE` of the container runtime"
        ),
        Some(_) | None => {}
    }
}

fn is_low(limit: u64) -> bool {
    limit < ENOUGH
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn all_that_the_system_gives_is_taken() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let less = maximum.map_or(4_096, |most| most - 1);
        setrlimit(Resource::Nofile, Rlimit { current: Some(less), maximum }).unwrap();
        raise();
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }

    #[test]
    fn it_is_said_when_that_is_little() {
        assert_eq!([1_024, 65_535, 65_536].map(is_low), [true, true, false]);
    }
}
