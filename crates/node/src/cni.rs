//! The CNI plugin: between a pod's network and its first process stands the question to the node whether its traffic is led.
//!
//! `plugin` is the program that the container runtime starts (the same binary, [`run_plugin`]); `server` answers it in the node;
//! `install` puts the program and a line for it where the runtime looks.

mod ask;
mod install;
mod plugin;
mod request;
mod server;
mod wire;

pub(crate) use install::keep_installed;
pub use install::{CniHost, InstallError, uninstall};
pub use plugin::{PluginOutput, run_plugin};
pub(crate) use server::{Attachment, Attachments, Desk, Verdict, serve};

#[cfg(test)]
mod tests;

/// The plugin's name: the type in a network's configuration, and the file in the runtime's directory of programs.
pub const PLUGIN: &str = "nullius-cni";
