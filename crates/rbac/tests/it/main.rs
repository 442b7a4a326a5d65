//! Rule semantics against a slow reference model, and properties of the request parser.

mod parser;
mod reference;
mod rules;
