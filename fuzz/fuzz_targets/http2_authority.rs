#![no_main]

#[path = "../workloads.rs"]
#[allow(dead_code, reason = "each target enters at one place")]
mod workloads;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| workloads::http2_authority(bytes));
