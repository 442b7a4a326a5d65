//! `inject`.

use clap::Args;

use super::{Files, Pull};

/// `nullius inject`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius inject -f shop.yaml --image registry.example.org/nullius:0.1.0 | kubectl apply -f -\n  kubectl get deployment orders -o yaml | nullius inject -f - --image registry.example.org/nullius:0.1.0 | kubectl apply -f -"
)]
pub(crate) struct Inject {
    #[command(flatten)]
    pub(crate) files: Files,
    /// The image with the program `nullius`: that of the cluster's own parts
    #[arg(long, env = "NULLIUS_IMAGE", value_name = "IMAGE", hide_env_values = true)]
    pub(crate) image: String,
    /// When the image is pulled; without it the API server says
    #[arg(long, value_name = "WHEN", value_enum)]
    pub(crate) pull: Option<Pull>,
}
