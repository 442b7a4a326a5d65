//! What failed tests said, gathered from what libtest prints: two lanes print at the same time, so that a reader would search for it.

/// Lines of a failed test that are told again: from its beginning, and from its end.
const HEAD: usize = 30;
const TAIL: usize = 20;

/// A test that failed, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    program: String,
    test: String,
    said: Vec<String>,
}

/// Reads the lines of one program.
#[derive(Debug)]
pub(super) struct Failures {
    program: String,
    found: Vec<Failure>,
    is_within: bool,
}

impl Failures {
    pub(super) fn of(program: &str) -> Self {
        Self { program: program.to_owned(), found: Vec::new(), is_within: false }
    }

    /// Takes the next line: `---- NAME stdout ----` begins what a test said, `failures:` the list of names behind it.
    pub(super) fn add(&mut self, line: &str) {
        let name = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        match (name, self.found.last_mut()) {
            (Some(test), _) => {
                self.is_within = true;
                self.found.push(Failure {
                    program: self.program.clone(),
                    test: test.to_owned(),
                    said: Vec::new(),
                });
            }
            (None, Some(failure)) if self.is_within && line != "failures:" => {
                failure.said.push(line.to_owned());
            }
            (None, _) => self.is_within = false,
        }
    }

    pub(super) fn found(self) -> Vec<Failure> {
        self.found
    }
}

impl Failure {
    /// The test with what it said, indented.
    pub(super) fn report(&self) -> String {
        let lines: Vec<&str> =
            self.said.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
        let left_out = lines.len().saturating_sub(HEAD + TAIL);
        let mut text = format!("failed: {} in {}\n", self.test, self.program);
        let mut say =
            |lines: &[&str]| lines.iter().for_each(|line| text += &format!("    {line}\n"));
        if left_out == 0 {
            say(&lines);
        } else {
            say(&lines[..HEAD]);
            say(&[&format!("({left_out} lines left out)")]);
            say(&lines[lines.len() - TAIL..]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failed_test_said_is_found_among_all_lines() {
        let mut failures = Failures::of("hub tests/it");
        let printed = "test a ... ok\ntest b::c ... FAILED\n\nfailures:\n\n---- b::c stdout ----\n\nthread 'b::c' panicked at x.rs:1:2:\nno\n\n\
                       ---- d stdout ----\nnothing\n\nfailures:\n    b::c\n    d\n\ntest result: FAILED. 1 passed; 2 failed";
        printed.lines().for_each(|line| failures.add(line));
        let told: Vec<String> = failures.found().iter().map(Failure::report).collect();
        assert_eq!(
            told,
            [
                "failed: b::c in hub tests/it\n    thread 'b::c' panicked at x.rs:1:2:\n    no\n",
                "failed: d in hub tests/it\n    nothing\n"
            ]
        );
    }

    #[test]
    fn of_many_lines_the_first_and_the_last_are_told() {
        let said = (0..100).map(|line| line.to_string()).collect();
        let failure = Failure { program: "p".to_owned(), test: "t".to_owned(), said };
        let text = failure.report();
        assert!(text.contains("    29\n    (50 lines left out)\n    80\n"), "{text}");
        assert!(text.ends_with("    99\n"), "{text}");
    }
}
