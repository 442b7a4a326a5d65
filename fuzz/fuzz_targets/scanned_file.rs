#![no_main]

#[path = "../entries.rs"]
#[allow(dead_code, reason = "each target enters at one place")]
mod entries;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entries::scanned_file(bytes));
