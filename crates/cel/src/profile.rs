//! Which language an environment speaks: the switches in which Kubernetes' versions and the language's own
//! specification differ, apart from the libraries that they load.

use crate::{library::operators::Scalars, map::Keys};

/// Switches of the language.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the language, set by name")]
pub(crate) struct Profile {
    /// Optional values: `a.?b`, `[?x]`, `optMap`.
    pub(crate) optionals: bool,
    /// Names in backticks.
    pub(crate) escaped_names: bool,
    /// Macros with an index and a value.
    pub(crate) two_variables: bool,
    /// `sortBy`.
    pub(crate) sort_by: bool,
    /// `cel.bind`.
    pub(crate) bind: bool,
    /// `math.greatest`, `math.least`.
    pub(crate) math: bool,
    /// List and map literals hold one type.
    pub(crate) homogeneous: bool,
    /// Literal durations, times and regular expressions are checked.
    pub(crate) literals: bool,
    /// `1 < 1.5` across number types.
    pub(crate) cross_type_order: bool,
    /// Milliseconds of a duration are those past the second, not the whole.
    pub(crate) millisecond_part: bool,
    /// IPv6 addresses that map IPv4 ones are refused unless they are written in hexadecimal.
    pub(crate) mapped_hexadecimal: bool,
    /// What asking a value without fields for one means.
    pub(crate) scalars: Scalars,
    /// What a repeated key of a map literal does.
    pub(crate) keys: Keys,
    /// A conversion of a literal that errs does not compile.
    pub(crate) fold_errors: bool,
}
