//! `policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nullius_cel::{Dialect, Version};

/// `nullius policy …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Judge one request by admission policies; exit code 2 when it is denied
    ///
    /// Policies are Kubernetes' own: `ValidatingAdmissionPolicy` and `MutatingAdmissionPolicy` of
    /// `admissionregistration.k8s.io/v1` with their bindings. They are checked, and decide, as the API server does it.
    ///
    /// The request is an `AdmissionReview`, or is made of an object: with `--object` alone it is created, with `--old` too it
    /// is updated, with `--old` alone it is deleted.
    ///
    /// What policies need to know beside it comes from `--state`: namespaces, parameters, roles and bindings, definitions of
    /// kinds. What the state does not hold is never taken for absent: say what it holds completely by a document
    /// `{apiVersion: nullius.dev/v1alpha1, kind: RecordedState, holds: [{apiVersion: v1, kind: Namespace}]}`.
    Eval(PolicyEval),
    /// Show how policies come to what they say of a request: rules, parameters, values, cost
    ///
    /// Takes what `policy eval` takes, and shows every policy: what it comes to, which rule and binding are for the request or
    /// why none is, the parameters, each condition, variable and expression with its value and its cost, and the exceptions that
    /// count. The exit code is that of the answer: 2 when the request is denied.
    #[command(
        after_help = "Examples:\n  nullius policy explain --policies policies/ --object pod.yaml --state state.yaml\n  nullius policy explain --policies policies/ --request review.json -o json"
    )]
    Explain(Judged),
    /// Write policies for an API server that asks them by itself
    ///
    /// `-o native` (the default) are objects for `kubectl apply`: one stream, or with `--out` a file for each policy. `-o manifest`
    /// are the files that an API server reads from folders (manifest-based admission, alpha in Kubernetes 1.36), and the
    /// `AdmissionConfiguration` that names the folders. `-o json`, `yaml` and `name` show what `native` would write.
    ///
    /// Exceptions become match conditions where they are for all that a policy finds in their objects. Others are named on
    /// standard error, and what they accept is refused; the exit code is 1 then. An exception that became a condition does not
    /// end by itself: the annotation `nullius.dev/exported-exceptions` says until when it is, and the export must be repeated.
    ///
    /// Every policy is checked as an API server checks it. What cannot be written in a form is named, and nothing is written.
    Export(PolicyExport),
}

/// `nullius policy export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius policy export --policies policies/ | kubectl apply -f -\n  nullius policy export --policies policies/ --exceptions exceptions/ --out exported/\n  nullius policy export --policies policies/ -o manifest --out admission/ --installed-at /etc/kubernetes/admission"
)]
pub(crate) struct PolicyExport {
    /// Files or folders with policies, bindings and exceptions; other objects in them are passed over
    #[arg(long, value_name = "PATH", required = true, num_args = 1.., value_hint = clap::ValueHint::AnyPath)]
    pub(crate) policies: Vec<PathBuf>,
    /// Files or folders with exceptions
    #[arg(long, value_name = "PATH", num_args = 1.., value_hint = clap::ValueHint::AnyPath)]
    pub(crate) exceptions: Vec<PathBuf>,
    /// The folder to write to; `-`, or none at all, is standard output
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Where the folder will stand on the machine of the API server; without it where it is
    #[arg(long, value_name = "PATH", requires = "out", value_hint = clap::ValueHint::DirPath)]
    pub(crate) installed_at: Option<PathBuf>,
    /// The API server's version, `k8s-1.27` to `k8s-1.37`
    #[arg(long, value_name = "ENV", default_value = "k8s-1.36", value_parser = version)]
    pub(crate) env: Version,
}

/// `nullius policy eval`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  nullius policy eval --policies policies/ --object pod.yaml --state state.yaml\n  nullius policy eval --policies policies/ --request review.json --explain\n  nullius policy eval --policies policies/ --object new.yaml --old old.yaml --as ada --as-group dev -o json"
)]
pub(crate) struct PolicyEval {
    #[command(flatten)]
    pub(crate) judged: Judged,
    /// Show what each policy, binding and expression came to: `nullius policy explain`
    #[arg(long)]
    pub(crate) explain: bool,
}

/// A request, and what it is judged by.
#[derive(Debug, Args)]
pub(crate) struct Judged {
    /// Files or folders with policies and bindings; other objects in them are passed over
    #[arg(long, value_name = "PATH", required = true, num_args = 1.., value_hint = clap::ValueHint::AnyPath)]
    pub(crate) policies: Vec<PathBuf>,
    /// An `AdmissionReview`, or the `AdmissionRequest` in it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["object", "old"], required_unless_present_any = ["object", "old"], value_hint = clap::ValueHint::FilePath)]
    pub(crate) request: Option<PathBuf>,
    /// The object as it is to be
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) object: Option<PathBuf>,
    /// The object as it is
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) old: Option<PathBuf>,
    /// Files or folders with what the cluster holds
    #[arg(long, value_name = "PATH", num_args = 1.., value_hint = clap::ValueHint::AnyPath)]
    pub(crate) state: Vec<PathBuf>,
    /// The namespace of an object that says none
    #[arg(short, long, value_name = "NAME", default_value = "default", conflicts_with = "request")]
    pub(crate) namespace: String,
    /// Who asks
    #[arg(
        long = "as",
        value_name = "USER",
        default_value = "kubernetes-admin",
        conflicts_with = "request"
    )]
    pub(crate) user: String,
    /// A group of who asks; may be repeated
    #[arg(long = "as-group", value_name = "GROUP", conflicts_with = "request")]
    pub(crate) groups: Vec<String>,
    /// The API server's version, `k8s-1.27` to `k8s-1.37`
    #[arg(long, value_name = "ENV", default_value = "k8s-1.36", value_parser = version)]
    pub(crate) env: Version,
}

/// The API server's version that people name.
pub(super) fn version(text: &str) -> Result<Version, String> {
    match text.parse() {
        Ok(Dialect::Kubernetes(version)) => Ok(version),
        Ok(Dialect::Spec) | Err(_) => {
            Err(format!("say `k8s-{}` to `k8s-{}`", Version::FIRST, Version::LATEST))
        }
    }
}
