#![no_main]

#[path = "../mesh.rs"]
mod mesh;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mesh::client_hello(bytes));
