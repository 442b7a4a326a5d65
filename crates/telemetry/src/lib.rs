//! Logs to standard error, metrics for Prometheus, health for the kubelet.
//!
//! Logs tell operators what the process does; what people did is in the audit. Secrets never reach either: the types
//! that hold them have no `Debug`. Nothing here reads the environment: format and level are flags of the binary.

mod health;
mod logs;
mod metrics;

pub use health::{Readiness, serve_health};
pub use logs::{LogError, LogFormat, init_logs};
pub use metrics::{Counter, Gauge, Histogram, Label, Metrics};
