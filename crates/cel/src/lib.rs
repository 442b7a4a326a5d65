//! The Common Expression Language with exactly Kubernetes' semantics: one meaning of a policy in CI, in a scan and in
//! the cluster. [`Env`] says which language and libraries, [`Env::compile`] checks an expression, [`Program::evaluate`]
//! runs it over borrowed JSON with the API server's cost, a deadline and a limit on memory. Nothing here reads a clock or
//! fetches anything: an authorization check without an answer ends with the question.

mod ast;
mod check;
mod cost;
mod env;
mod error;
mod fold;
mod library;
pub mod list;
mod machine;
pub mod map;
pub mod object;
mod parse;
mod profile;
mod program;
mod re2;
mod stack;
pub mod tagged;
pub mod time;
mod types;
mod validate;
mod value;

pub use cost::Estimate;
pub use env::{Dialect, Env, UnknownEnv, Version};
pub use error::{CompileError, EvalError};
pub use library::{
    authz, cidr::Cidr, format::Format, quantity::Quantity, semver::Semver, url::Url,
};
pub use machine::{Activation, Budget, COST_LIMIT, LazyFields, Outcome, VALUE_LIMIT};
pub use program::Program;
pub use stack::with_deep_stack;
pub use types::Type;
pub use value::{Octets, Text, Value};
