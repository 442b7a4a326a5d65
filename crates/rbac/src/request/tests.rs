#![allow(clippy::unwrap_used, reason = "test")]
use super::*;
#[test]
fn x() {
    RequestInfo::parse("GET", "/").unwrap();
}
