//! The world that is measured: a real cluster with a node, hub and agents of the release build, people, and a way
//! past all of it with a ServiceAccount that may do the same.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nullius_api::{KubeCredential, SignInRequest, Tokens, route};
use nullius_testkit::{
    Cluster, ClusterConfig, Environment, EnvironmentConfig, Kubectl, Person, Profile, Progress,
    StateDir, interrupt, kubectl,
};
use serde_json::json;
use tokio::runtime::Runtime;

use super::{
    Sizes,
    client::{Line, Server, Way},
    process::{self, Process},
};

const CLUSTER: &str = "dev";
/// A small object that a developer may read.
pub(crate) const SMALL: &str = "/api/v1/namespaces/shop/configmaps/web-pages";
/// A pod to run commands in.
pub(crate) const POD: &str = "/api/v1/namespaces/shop/pods/bench";
const OBJECTS: &str = include_str!("../../../dev/bench/objects.yaml");

/// What runs on the cluster's nodes beside pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    Bare,
    /// `nullius node`, and `agent identity` for it.
    WithIdentities,
}

/// Everything that a part needs.
pub(crate) struct World {
    pub(crate) sizes: Sizes,
    pub(crate) runtime: Runtime,
    pub(crate) cluster: Cluster,
    pub(crate) environment: Environment,
    /// Past Nullius.
    pub(crate) direct: Way,
    pub(crate) hub: Server,
    state: StateDir,
}

/// A person who is signed in.
pub(crate) struct Session {
    /// Through hub and agent.
    pub(crate) way: Way,
    /// A connection to the hub's own API.
    pub(crate) hub: Line,
}

impl World {
    /// Starts it, after ending what an earlier run left behind.
    pub(crate) fn start(nullius: PathBuf, sizes: Sizes, nodes: Nodes) -> Result<Self> {
        end()?;
        ctrlc::set_handler(|| {
            interrupt();
            let ended = end();
            if let Err(error) = &ended {
                eprintln!("error: {error:#}");
            }
            std::process::exit(130);
        })
        .context("cannot listen for Ctrl-C")?;
        let state = StateDir::open(&path())?;
        let started = Self::start_in(state, nullius, sizes, nodes);
        if started.is_err() {
            end()?;
        }
        started
    }

    fn start_in(state: StateDir, nullius: PathBuf, sizes: Sizes, nodes: Nodes) -> Result<Self> {
        let config = ClusterConfig::new(CLUSTER, Profile::Standard).nodes(1);
        let cluster = Cluster::up(&state, config, Progress::Lines)?;
        if let Some(missing) = &cluster.record().missing {
            bail!("the figures need a node with pods: {missing}");
        }
        let mut config = EnvironmentConfig::new(state.path(), nullius);
        config.mesh = nodes == Nodes::WithIdentities;
        let environment = Environment::start(config, vec![cluster.clone()], Progress::Lines)?;
        let direct = cluster.kubectl()?;
        direct.apply(OBJECTS)?;
        let ready = ["-n", "shop", "wait", "--for=condition=Ready", "pod/bench", "--timeout=60s"];
        direct.ok(&ready)?;
        let token = direct.ok(&["-n", "shop", "create", "token", "bench", "--duration=1h"])?;
        let api = cluster.record().server.trim_start_matches("https://").parse();
        let api = Server::new(
            api.context("the API server's address")?,
            &cluster.record().certificate_authority,
        )?;
        let hub = environment.hub_url.trim_start_matches("https://").parse();
        Ok(Self {
            sizes,
            runtime: Runtime::new().context("cannot start a runtime")?,
            direct: Way::new(&api, "", token.trim())?,
            hub: Server::new(hub.context("the hub's address")?, &environment.hub_ca)?,
            cluster,
            environment,
            state,
        })
    }

    /// Makes a person known who has not signed in yet.
    pub(crate) fn person(&self, name: &str) -> Result<Person> {
        self.environment.new_person(name, &["developers"])
    }

    /// A person of this name, signed in.
    pub(crate) fn session(&self, name: &str) -> Result<Session> {
        let person = self.person(name)?;
        self.runtime.block_on(self.sign_in(&person))
    }

    /// Signs a person in, as the command line does, and takes kubectl's credential.
    pub(crate) async fn sign_in(&self, person: &Person) -> Result<Session> {
        let request = SignInRequest {
            user: person.name.clone(),
            password: person.password.clone(),
            code: person.code()?,
            // Nobody knows the secret of this hash: the session is never refreshed.
            client: "A".repeat(43),
        };
        let line = self.hub.connect().await?;
        let tokens = line.post(route::SIGN_IN, &serde_json::to_value(request)?).await?;
        let tokens: Tokens = serde_json::from_value(tokens)?;
        let hub = line.with_token(&tokens.access_token)?;
        let credential = hub.post(route::KUBE_CREDENTIAL, &json!({})).await?;
        let credential: KubeCredential = serde_json::from_value(credential)?;
        let prefix = format!("/clusters/{CLUSTER}");
        Ok(Session { way: Way::new(&self.hub, &prefix, &credential.token)?, hub })
    }

    /// The hub's process.
    pub(crate) fn hub_process(&self) -> Result<Process> {
        let hub = self.environment.processes.first().context("the hub has no process")?;
        Ok(Process(hub.pid))
    }

    /// The processes of `agent proxy` or `agent control`.
    pub(crate) fn agents(&self, role: &str) -> Result<Vec<Process>> {
        let agents = process::agents(&self.hub.authority(), role);
        if agents.is_empty() {
            bail!("no process runs `nullius agent {role}`");
        }
        Ok(agents)
    }

    /// kubectl as the developer, through hub and agent.
    pub(crate) fn kubectl(&self) -> Result<Kubectl> {
        kubectl(&self.environment.kubeconfig)
    }

    /// A directory that goes with the world.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf> {
        let directory = self.state.path().join("nullius").join(name);
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = end() {
            eprintln!("error: {error:#}");
        }
    }
}

/// Ends what runs and removes what was made.
fn end() -> Result<()> {
    let path = path();
    if !path.exists() {
        return Ok(());
    }
    let state = StateDir::open(&path)?;
    Environment::stop(state.path(), Progress::Silent)?;
    state.down_all(Progress::Silent)
}

fn path() -> PathBuf {
    let developer = StateDir::default_path();
    let name = developer.file_name().unwrap_or_default().to_string_lossy().replace("dev", "bench");
    developer.with_file_name(name)
}

/// Waits a while for things to settle; nothing is measured meanwhile.
pub(crate) fn settle(length: Duration) {
    std::thread::sleep(length);
}

/// The release build of the `nullius` binary.
pub(crate) fn release_binary(root: &Path, name: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    target.join("release").join(name)
}
