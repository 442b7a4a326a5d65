//! The binary end to end: people with kubectl, Helm and other clients on a real cluster, through hub and agent.
//!
//! They run where a test run has started clusters and a hub (`NULLIUS_TEST_STATE`, set by `cargo xtask test`). Each
//! test brings its own people, grants and namespace, and takes them away again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test")]

mod admission;
mod admission_attacks;
mod admission_direct;
mod admission_exceptions;
mod admission_lab;
mod admission_levels;
mod alone;
mod anchor;
mod api_server_audit;
mod audit;
mod baselines;
mod beside;
mod browser;
mod bytes;
mod clients;
mod credential;
mod denials;
mod faults;
mod faults_agents;
mod faults_api_server;
mod faults_clock;
mod faults_disk;
mod faults_exec;
mod faults_join;
mod faults_lab;
mod faults_objects;
mod faults_outage;
mod faults_session;
mod faults_sign_in;
mod faults_store;
mod federation;
mod findings;
mod flush;
mod gateways;
mod identity;
mod identity_lab;
mod keys;
mod mesh;
mod mesh_calls;
mod mesh_injected;
mod mesh_sample;
mod mesh_sidecar;
mod node;
mod pages;
mod people;
mod proxy;
mod reads;
mod running;
mod shipped;
mod streams;
mod trail;
mod transports;
mod world;
mod writes;
