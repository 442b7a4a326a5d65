//! A whole Nullius beside development clusters: hub, agents, example people with roles and grants, one signed in.
//!
//! Everything goes the way of a user: the `nullius` binary starts the hub and speaks to it, `kubectl apply` joins the
//! clusters, people enrol over the public API. [`Environment`] is the record of it, as `cargo xtask up -o json`
//! prints it and end-to-end tests read it.

mod people;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

pub use people::{Person, totp_code};

use crate::{
    api::Api,
    cluster::Cluster,
    image::image_from_binary,
    kubectl::Output,
    process::{Daemon, MARKER, kill, log_tail, marked, wait_gone},
    progress::Progress,
    record::ProcessRecord,
    wait::wait_until,
};

const API_VERSION: &str = "nullius.dev/v1alpha1";
const RECORD: &str = "environment.json";
const IMAGE: &str = "localhost/nullius:dev";
const OBJECTS: &str = include_str!("../../../dev/environment/objects.yaml");
const SAMPLE: &str = include_str!("../../../dev/cluster/sample.yaml");
const PATIENCE: Duration = Duration::from_secs(60);
/// The first admin, a developer of one namespace, somebody who may look, and an operator of the clusters.
const PEOPLE: [(&str, &[&str]); 3] =
    [("dora", &["developers"]), ("vic", &["viewers"]), ("olga", &["admins"])];

/// What is needed to start one.
#[derive(Clone, Debug)]
pub struct EnvironmentConfig {
    state: PathBuf,
    nullius: PathBuf,
    /// The port of the hub; 0 takes a free one.
    pub port: u16,
}

/// A running environment, as written to `environment.json` in its state directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Environment {
    /// The version of this form.
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// Always `DevEnvironment`.
    pub kind: String,
    /// Where people reach the hub.
    pub hub_url: String,
    /// The hub's root, PEM.
    pub hub_ca: PathBuf,
    /// Ready to use as the developer.
    pub kubeconfig: PathBuf,
    /// The clusters behind the hub.
    pub clusters: Vec<EnvironmentCluster>,
    /// The example people.
    pub users: Vec<Person>,
    /// The binary that runs.
    pub nullius: PathBuf,
    /// One command-line home for each person who is signed in.
    pub homes: PathBuf,
    /// The hub's state directory.
    pub hub_state: PathBuf,
    /// Its processes outside of clusters.
    pub processes: Vec<ProcessRecord>,
}

/// A cluster behind the hub.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnvironmentCluster {
    /// Its name at the hub.
    pub name: String,
    /// An administrator's kubeconfig, past Nullius.
    pub direct_kubeconfig: PathBuf,
}

impl EnvironmentConfig {
    /// An environment in this state directory, of this `nullius` binary.
    pub fn new(state: &Path, nullius: PathBuf) -> Self {
        Self { state: state.to_owned(), nullius, port: 0 }
    }
}

impl Environment {
    /// Starts hub and agents beside these clusters, makes the example people and signs the developer in.
    pub fn start(
        config: EnvironmentConfig,
        clusters: Vec<Cluster>,
        progress: Progress,
    ) -> Result<Self> {
        Self::stop(&config.state, Progress::Silent)?;
        let began = Instant::now();
        let directory = directory(&config.state);
        fs::create_dir_all(&directory)?;
        let start = Start { directory: &directory, config: &config, clusters: &clusters, progress };
        match start.run() {
            Ok(environment) => {
                progress.done("hub, agents and people are ready", began);
                Ok(environment)
            }
            Err(error) => {
                let said = log_tail(&directory.join("hub.log"));
                end_processes(&directory);
                Err(error.context(format!("the environment did not start; the hub said:\n{said}")))
            }
        }
    }

    /// The environment of this state directory, if one was started and its hub still runs.
    pub fn open(state: &Path) -> Result<Option<Self>> {
        let path = directory(state).join(RECORD);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let environment: Self = serde_json::from_slice(&text)
            .with_context(|| format!("`{}` is not what this version writes", path.display()))?;
        let alive = environment.processes.iter().all(ProcessRecord::is_alive);
        Ok(alive.then_some(environment))
    }

    /// Ends what [`Self::start`] started outside of the clusters, also what a killed run left behind.
    pub fn stop(state: &Path, progress: Progress) -> Result<()> {
        let directory = directory(state);
        if !directory.exists() {
            return Ok(());
        }
        end_processes(&directory);
        fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot remove `{}`", directory.display()))?;
        progress.say("the hub has ended");
        Ok(())
    }

    /// Runs the command line as a person who is signed in here.
    pub fn nullius(&self, person: &str, args: &[&str]) -> Result<Output> {
        self.nullius_with_input(person, args, "")
    }

    /// As [`Self::nullius`], with this text on standard input.
    pub fn nullius_with_input(&self, person: &str, args: &[&str], input: &str) -> Result<Output> {
        run(&self.nullius, &self.homes.join(person), args, input)
    }

    /// The password and current code of a person, and so on.
    pub fn person(&self, name: &str) -> Result<&Person> {
        let found = self.users.iter().find(|person| person.name == name);
        found.with_context(|| format!("nobody called `{name}` lives here"))
    }

    /// A blocking client for the hub's API, without any credential.
    pub fn hub(&self) -> Result<Api> {
        let address = self.hub_url.trim_start_matches("https://").parse()?;
        Api::anonymous(address, &self.hub_ca)
    }
}

/// A start that is going on.
struct Start<'a> {
    directory: &'a Path,
    config: &'a EnvironmentConfig,
    clusters: &'a [Cluster],
    progress: Progress,
}

impl Start<'_> {
    fn run(&self) -> Result<Environment> {
        let began = Instant::now();
        let address = self.hub_address()?;
        let hub_url = format!("https://{address}");
        let image = thread::scope(|scope| {
            let packed = scope.spawn(|| image_from_binary(&self.config.nullius, IMAGE));
            let enrolment = self.init_hub(&hub_url);
            let packed = packed.join().unwrap_or_else(|_| bail!("packing the image panicked"));
            enrolment.and_then(|link| Ok((link, packed?)))
        });
        let (link, image) = image?;
        let hub = self.start_hub(address, &hub_url)?;
        let hub_ca = self.directory.join("hub-ca.pem");
        self.progress.done("hub", began);

        let mut environment = Environment {
            api_version: API_VERSION.to_owned(),
            kind: "DevEnvironment".to_owned(),
            hub_url,
            hub_ca,
            kubeconfig: self.directory.join("kubeconfig"),
            clusters: Vec::new(),
            users: Vec::new(),
            nullius: self.config.nullius.clone(),
            homes: self.directory.join("homes"),
            hub_state: self.directory.join("hub"),
            processes: vec![hub],
        };
        thread::scope(|scope| -> Result<()> {
            let loads: Vec<_> = self
                .clusters
                .iter()
                .map(|cluster| {
                    let image = &image;
                    scope.spawn(move || {
                        cluster.load_image(image)?;
                        cluster.kubectl()?.apply(SAMPLE).map(drop)
                    })
                })
                .collect();
            let admin = Person::enrol(&environment.hub()?, "admin", &[], &link)?;
            admin.sign_in(&environment)?;
            environment.users.push(admin);
            environment.nullius_ok_with_input("admin", &["apply", "-f", "-"], OBJECTS)?;
            for load in loads {
                load.join().unwrap_or_else(|_| bail!("bringing an image to a cluster panicked"))?;
            }
            Ok(())
        })?;
        for cluster in self.clusters {
            environment.join(cluster)?;
        }
        for (name, groups) in PEOPLE {
            environment.add_person(name, groups)?;
        }
        self.progress.done("people, roles and grants", began);
        environment.person("dora")?.sign_in(&environment)?;
        let file = environment.kubeconfig.display().to_string();
        environment.nullius_ok("dora", &["kubeconfig", "--file", &file])?;
        environment.wait_for_agents()?;
        self.progress.done("agents", began);
        environment.write(self.directory)?;
        Ok(environment)
    }

    /// One address that people on this machine and pods both reach.
    fn hub_address(&self) -> Result<SocketAddr> {
        let from_pods = self.clusters.iter().find_map(|cluster| cluster.record().host_address);
        let host = from_pods.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let listener = TcpListener::bind((host, self.config.port)).with_context(|| {
            format!("the hub cannot listen on {host}, port {}", self.config.port)
        })?;
        Ok(listener.local_addr()?)
    }

    /// Makes the hub's state; gives the first admin's enrolment token.
    fn init_hub(&self, hub_url: &str) -> Result<String> {
        let state = self.directory.join("hub").display().to_string();
        let args = ["hub", "init", "--state", &state, "--public-url", hub_url, "-o", "json"];
        let output = run(&self.config.nullius, &self.directory.join("homes/none"), &args, "")?;
        if output.code != 0 {
            bail!("`nullius hub init` failed: {}", output.stderr.trim());
        }
        let made: serde_json::Value = serde_json::from_str(&output.stdout)
            .with_context(|| format!("`nullius hub init` printed no JSON: {}", output.stdout))?;
        let ca = made["ca"].as_str().context("`nullius hub init` names no root")?;
        fs::write(self.directory.join("hub-ca.pem"), ca)?;
        let token =
            made["token"].as_str().context("`nullius hub init` gives no enrolment token")?;
        Ok(token.to_owned())
    }

    fn start_hub(&self, address: SocketAddr, hub_url: &str) -> Result<ProcessRecord> {
        start_hub(&self.config.nullius, self.directory, address, hub_url)
    }
}

/// Starts the hub on the state in this directory and waits until it serves.
fn start_hub(
    nullius: &Path,
    directory: &Path,
    address: SocketAddr,
    hub_url: &str,
) -> Result<ProcessRecord> {
    let log = directory.join("hub.log");
    let args = [
        "hub",
        "--state",
        &directory.join("hub").display().to_string(),
        "--listen",
        &address.to_string(),
        "--public-url",
        hub_url,
    ];
    let process = Daemon {
        name: "hub",
        program: nullius.to_owned(),
        args: args.map(str::to_owned).to_vec(),
        directory,
        log: log.clone(),
        namespace: None,
        path: Vec::new(),
    }
    .spawn()?;
    let hub = Api::anonymous(address, &directory.join("hub-ca.pem"))?;
    wait_until(PATIENCE, "the hub", || {
        if !process.is_alive() {
            return Some(Err(anyhow::anyhow!("the hub ended by itself:\n{}", log_tail(&log))));
        }
        hub.get("/readyz").ok().filter(|answer| answer.status == 200).map(|_| Ok(()))
    })??;
    Ok(process)
}

impl Environment {
    /// Ends the hub with SIGKILL, as a crash would; [`Self::start_hub_again`] brings it back.
    pub fn kill_hub(&self) -> Result<()> {
        let hub = self.hub_process()?;
        if hub.is_alive() {
            kill(hub.pid);
            wait_gone(&[hub.pid], Duration::from_secs(10));
        }
        Ok(())
    }

    /// Starts the hub on its state as it was started first, in the environment of this state directory.
    pub fn start_hub_again(&mut self, state: &Path) -> Result<()> {
        let directory = directory(state);
        let address = self.hub_url.trim_start_matches("https://").parse()?;
        let hub = start_hub(&self.nullius, &directory, address, &self.hub_url)?;
        self.processes.retain(|process| process.name != hub.name);
        self.processes.push(hub);
        self.write(&directory)
    }

    /// The hub as a process of this machine.
    pub fn hub_process(&self) -> Result<&ProcessRecord> {
        let hub = self.processes.iter().find(|process| process.name == "hub");
        hub.context("this environment has no hub of its own")
    }

    fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(RECORD);
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write `{}`", path.display()))
    }
}

impl Environment {
    /// Runs the command line; an exit code other than 0 is an error.
    pub fn nullius_ok(&self, person: &str, args: &[&str]) -> Result<String> {
        self.nullius_ok_with_input(person, args, "")
    }

    /// As [`Self::nullius_ok`], with this text on standard input.
    pub fn nullius_ok_with_input(
        &self,
        person: &str,
        args: &[&str],
        input: &str,
    ) -> Result<String> {
        let output = self.nullius_with_input(person, args, input)?;
        if output.code != 0 {
            let (code, said) = (output.code, output.stderr.trim());
            bail!("`nullius {}` ended with {code}: {said}", args.join(" "));
        }
        Ok(output.stdout)
    }

    /// Makes a person known as the admin, and enrols them as they would themselves.
    pub fn add_person(&mut self, name: &str, groups: &[&str]) -> Result<()> {
        let person = self.new_person(name, groups)?;
        self.users.push(person);
        Ok(())
    }

    /// A further person, for one test.
    pub fn new_person(&self, name: &str, groups: &[&str]) -> Result<Person> {
        let mut args = vec!["user", "add", name, "-o", "json"];
        args.extend(groups.iter().flat_map(|group| ["--group", *group]));
        let link: serde_json::Value = serde_json::from_str(&self.nullius_ok("admin", &args)?)?;
        let token = link["token"].as_str().context("`nullius user add` gives no token")?;
        Person::enrol(&self.hub()?, name, groups, token)
    }

    fn join(&mut self, cluster: &Cluster) -> Result<()> {
        let name = cluster.name().to_owned();
        let args = [
            "cluster",
            "add",
            &name,
            "--label",
            "env=dev",
            "--ceiling",
            "cluster-admin",
            "--manifest",
            "--image",
            IMAGE,
        ];
        let manifest = self.nullius_ok("admin", &args)?;
        cluster.kubectl()?.apply(&manifest).with_context(|| format!("joining `{name}`"))?;
        let direct_kubeconfig = cluster.kubeconfig().to_owned();
        self.clusters.push(EnvironmentCluster { name, direct_kubeconfig });
        Ok(())
    }

    /// Waits until each cluster answers the developer through hub and agent.
    fn wait_for_agents(&self) -> Result<()> {
        let kubeconfig = BTreeMap::from([("KUBECONFIG", self.kubeconfig.display().to_string())]);
        for cluster in &self.clusters {
            let direct = crate::kubectl::kubectl(&cluster.direct_kubeconfig)?;
            let kubectl = crate::kubectl::kubectl(&self.kubeconfig)?;
            let mut last = String::new();
            let what = format!("the agent of cluster `{}`", cluster.name);
            let context = format!("nullius-{}", cluster.name);
            let args = ["--context", &context, "get", "pods", "-n", "shop"];
            let answered = wait_until(PATIENCE, &what, || {
                let output = kubectl.run(&args).ok()?;
                last.clone_from(&output.stderr);
                (output.code == 0).then_some(())
            });
            if let Err(error) = answered {
                let pods = direct
                    .run(&["-n", "nullius-system", "get", "pods"])
                    .map(|output| output.stdout);
                let logs = [
                    "-n",
                    "nullius-system",
                    "logs",
                    "-l",
                    "app.kubernetes.io/name=nullius",
                    "--tail=20",
                ];
                let logs = direct.run(&logs).map(|output| output.stdout);
                bail!(
                    "{error}: {}\n{}\n{} ({kubeconfig:?})",
                    last.trim(),
                    pods.unwrap_or_default(),
                    logs.unwrap_or_default()
                );
            }
        }
        Ok(())
    }
}

fn directory(state: &Path) -> PathBuf {
    state.join("nullius")
}

/// Ends the processes that carry the directory's mark: the hub has SIGKILL coming too, its store survives that.
fn end_processes(directory: &Path) {
    let running = marked(directory);
    for pid in &running {
        kill(*pid);
    }
    wait_gone(&running, Duration::from_secs(10));
}

fn run(nullius: &Path, home: &Path, args: &[&str], input: &str) -> Result<Output> {
    use std::{io::Write as _, process::Stdio};
    fs::create_dir_all(home)?;
    let mut child = Command::new(nullius)
        .args(args)
        .env("NULLIUS_HOME", home)
        .env("NO_COLOR", "1")
        .env_remove(MARKER)
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{}`", nullius.display()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read all of it says so by its exit code.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    Ok(Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    })
}
