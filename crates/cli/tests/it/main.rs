//! The command line against a hub that answers over real TLS on a real socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, reason = "test")]

mod attacks;
mod compare;
mod credential;
mod exception;
mod export;
mod faults;
mod findings;
mod hub;
mod inject;
mod intention;
mod kubeconfig;
mod mesh;
mod objects;
mod person;
mod policy;
mod record;
mod scan;
mod shown;
mod sign_in;
mod svid;
mod svid_fetch;
mod time;
mod trial;
