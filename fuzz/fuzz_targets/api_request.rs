#![no_main]

#[path = "../intentions.rs"]
#[allow(dead_code, reason = "each target enters at one place")]
mod intentions;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| intentions::api_request(bytes));
