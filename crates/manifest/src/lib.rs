//! Files of objects: found, split and read, so that every value knows its line and column.
//!
//! [`parse()`] reads YAML and JSON in a [`Dialect`]: strictly, as the objects of Nullius are written, or as kubectl
//! reads Kubernetes' own. [`walk`] finds texts in files, folders and standard input; [`objects()`] finds the objects in a
//! text, past whatever in it cannot be read, and [`Manifest::as_api_object`] is what an API server would make of one.
//! [`Reader`] turns a tree into types, so that an error knows its field.

#![forbid(unsafe_code)]

mod api_object;
mod intake;
mod node;
mod objects;
mod parse;
mod scalar;
mod typed;

pub use api_object::ApiObject;
pub use intake::{STDIN, Source, TEXT_MAX, Unreadable, walk};
pub use node::{Content, Key, Node, Place};
pub use objects::{Fault, Found, Manifest, objects};
pub use parse::{DEPTH_MAX, Dialect, NODES_MAX, SyntaxError, parse, parse_from};
pub use typed::{FieldError, FieldFault, Reader};
