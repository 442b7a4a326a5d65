//! Kubernetes' own kinds: what they are made of, and what an API server makes of an object before it judges it.
//!
//! A file is not an API object: the API server reads it strictly, fills in defaults, and writes it as Go does, where
//! `hostNetwork: false` is absent and `resources: {}` is there. [`normalize()`] does the same, so that an expression sees
//! in a file what it sees in a cluster. [`Table`] is the field table behind it, made from Kubernetes' own code by
//! `cargo xtask generate`; it also says how lists and maps merge.

#![forbid(unsafe_code)]

mod decode;
mod encode;
mod fault;
mod normalize;
mod quantity;
mod rules;
mod scalar;
mod table;

pub use decode::nearest_name;
pub use fault::{Fault, FaultKind, Found, Meant};
pub use normalize::{Form, Normalized, normalize};
pub use table::{
    Field, Format, Item, Kind, ListMerge, MapMerge, Patch, Retain, Scalar, Scope, Shape, Table,
    Type, Written,
};
