//! The program that a container runtime starts for each network of a pod.

use std::{collections::BTreeMap, fs::File, os::fd::OwnedFd};

use super::{
    ask::ask,
    request::{CniError, Code, Config, VERSIONS, Variables},
    wire::{Answer, Question},
};

/// What the runtime gets.
#[derive(Debug, PartialEq, Eq)]
pub struct PluginOutput {
    /// For standard output.
    pub text: String,
    /// Whether the call went well, which is the exit code.
    pub is_success: bool,
}

/// Does what the environment and the configuration on standard input say. What a pod must wait for it asks the node.
#[must_use]
pub fn run_plugin(environment: &BTreeMap<String, String>, input: &[u8]) -> PluginOutput {
    match call(&Variables(environment), input) {
        Ok(text) => PluginOutput { text, is_success: true },
        Err((version, error)) => PluginOutput { text: error.to_json(&version), is_success: false },
    }
}

fn call(variables: &Variables<'_>, input: &[u8]) -> Result<String, (String, CniError)> {
    let newest = || VERSIONS.last().copied().unwrap_or_default().to_owned();
    let command = variables.required("CNI_COMMAND").map_err(|error| (newest(), error))?;
    if command == "VERSION" {
        return Ok(serde_json::json!({
            "cniVersion": newest(), "supportedVersions": VERSIONS,
        })
        .to_string());
    }
    let config = Config::read(input).map_err(|error| (newest(), error))?;
    let done = match command {
        "ADD" => add(variables, &config),
        "DEL" => delete(variables, &config),
        "CHECK" => check(variables, &config),
        "GC" => collect(&config),
        "STATUS" => status(&config),
        other => {
            let message = format!("the command `{other}` is none of CNI");
            Err(CniError::new(Code::Environment, message, ""))
        }
    };
    done.map_err(|error| (config.cni_version, error))
}

/// Whether the node has nothing to say about it.
fn passes(config: &Config, namespace: &str) -> bool {
    config.pass_namespaces.iter().any(|one| one == namespace)
}

fn add(variables: &Variables<'_>, config: &Config) -> Result<String, CniError> {
    let previous = config.previous()?.get().to_owned();
    // Nothing of Kubernetes is nothing of the mesh.
    let Some(pod) = variables.pod()? else { return Ok(previous) };
    if passes(config, &pod.namespace) {
        return Ok(previous);
    }
    let container = variables.required("CNI_CONTAINERID")?.to_owned();
    let path = variables.required("CNI_NETNS")?;
    let network: OwnedFd = File::open(path)
        .map_err(|error| {
            let message = format!("cannot open the network namespace `{path}`");
            CniError::new(Code::InputOutput, message, error)
        })?
        .into();
    let question = Question::Add { pod, container, addresses: config.addresses()? };
    told(config, &question, Some(&network), Code::Later)?;
    Ok(previous)
}

fn check(variables: &Variables<'_>, config: &Config) -> Result<String, CniError> {
    config.previous()?;
    let Some(pod) = variables.pod()? else { return Ok(String::new()) };
    if passes(config, &pod.namespace) {
        return Ok(String::new());
    }
    let container = variables.required("CNI_CONTAINERID")?.to_owned();
    told(config, &Question::Check { container }, None, Code::Later)
}

/// A pod can always go: a node that is away finds out by itself.
fn delete(variables: &Variables<'_>, config: &Config) -> Result<String, CniError> {
    let container = variables.required("CNI_CONTAINERID")?.to_owned();
    let _ = ask(&config.socket, &Question::Delete { container }, None);
    Ok(String::new())
}

fn collect(config: &Config) -> Result<String, CniError> {
    let Some(valid) = &config.valid_attachments else {
        let message = "`cni.dev/valid-attachments` is missing";
        return Err(CniError::new(Code::Config, message, ""));
    };
    let containers = valid.iter().map(|one| one.container.clone()).collect();
    told(config, &Question::Keep { containers }, None, Code::Later)
}

fn status(config: &Config) -> Result<String, CniError> {
    told(config, &Question::Status, None, Code::Unavailable)
}

/// Asks the node; `away` says what it is when that does not answer.
fn told(
    config: &Config,
    question: &Question,
    network: Option<&OwnedFd>,
    away: Code,
) -> Result<String, CniError> {
    let answer = ask(&config.socket, question, network).map_err(|error| {
        let socket = config.socket.display();
        let message = format!("`nullius node` does not answer on `{socket}`: is it running here?");
        CniError::new(away, message, error)
    })?;
    match answer {
        Answer::Done => Ok(String::new()),
        Answer::Later(why) => Err(CniError::new(away, why, "")),
        Answer::Refused(why) => Err(CniError::new(Code::Refused, why, "")),
    }
}
