//! A whole Nullius beside development clusters: hub, agents, example people with roles and grants, one signed in.
//!
//! Everything goes the way of a user: the `nullius` binary starts the hub and speaks to it, `kubectl apply` joins the
//! clusters, people enrol over the public API. A cluster whose nodes are not ours to bring an image to gets its agent
//! beside it: `nullius up --kubeconfig` is hub and agent in one process. [`Environment`] is the record of it, as
//! `cargo xtask up -o json` prints it and end-to-end tests read it.

mod hub;
mod nodes;
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

pub use people::{Person, earlier_code};

use crate::{
    api::Api,
    cluster::Cluster,
    image::{Image, image_from_binary},
    interrupt::go_on,
    kubectl::{Kubectl, Output},
    owned,
    port::free_address,
    process::{MARKER, kill, log_tail, marked, terminate, wait_gone},
    progress::Progress,
    record::ProcessRecord,
    wait::wait_until,
};

const API_VERSION: &str = "nullius.dev/v1alpha1";
const RECORD: &str = "environment.json";
/// What else stands in an environment's directory.
const FILES: [&str; 5] = ["hub", "homes", "hub.log", "hub-ca.pem", "kubeconfig"];
/// The directory of an environment in its state directory.
pub(crate) const DIRECTORY: &str = "nullius";
const IMAGE: &str = "localhost/nullius:dev";
const OBJECTS: &str = include_str!("../../../dev/environment/objects.yaml");
const SAMPLE: &str = include_str!("../../../dev/cluster/sample.yaml");
const MESH: &str = include_str!("../../../dev/environment/mesh.yaml");
const PATIENCE: Duration = Duration::from_secs(180);
/// How long an agent beside its cluster may take to give back what sessions have there.
const FAREWELL: Duration = Duration::from_secs(60);
/// A developer of one namespace, somebody who may look, and an operator of the clusters; what the grants give them.
const PEOPLE: [(&str, &[&str], &str); 3] = [
    ("dora", &["developers"], "developers: work in the namespace `shop`"),
    ("vic", &["viewers"], "viewers: look at workloads, at nothing secret"),
    ("olga", &["admins"], "admins: everything in the clusters"),
];
/// The first admin.
const ADMIN: (&str, &str) = ("admin", "the hub's admin: people, roles, grants, clusters, audit");

/// What is needed to start one.
#[derive(Clone, Debug)]
pub struct EnvironmentConfig {
    state: PathBuf,
    nullius: PathBuf,
    /// The port of the hub; 0 takes a free one.
    pub port: u16,
    /// Whether nodes prove who their pods are, lead the calls of those in the mesh, and the sample has some.
    pub mesh: bool,
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
    /// Where its agent runs.
    pub agent: AgentPlace,
}

/// Where an agent runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentPlace {
    /// As Deployments on the cluster's nodes.
    InCluster,
    /// In the hub's process, beside the cluster's kubeconfig.
    Beside,
}

impl EnvironmentConfig {
    /// An environment in this state directory, of this `nullius` binary.
    pub fn new(state: &Path, nullius: PathBuf) -> Self {
        Self { state: state.to_owned(), nullius, port: 0, mesh: false }
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
        let agents = agents_of(&clusters)?;
        let began = Instant::now();
        let directory = directory(&config.state);
        owned::make(&directory)?;
        let start =
            Start { directory: &directory, config: &config, clusters: &clusters, agents, progress };
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
        if owned::is_marked(&directory) {
            say_goodbye(state);
            end_processes(&directory);
            owned::remove(&directory)?;
            progress.say("the hub has ended");
            return Ok(());
        }
        owned::remove(&directory)?;
        // Somebody may have removed the directory of a hub that runs.
        end_processes(&directory);
        Ok(())
    }

    /// Runs the command line as a person who is signed in here.
    pub fn nullius(&self, person: &str, args: &[&str]) -> Result<Output> {
        self.nullius_with_input(person, args, "")
    }

    /// The command line as a person who is signed in here, for a caller that wants to run it in its own way.
    pub fn command(&self, person: &str, args: &[&str]) -> Result<Command> {
        command(&self.nullius, &self.homes.join(person), args)
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
    agents: AgentPlace,
    progress: Progress,
}

impl Start<'_> {
    fn run(&self) -> Result<Environment> {
        let began = Instant::now();
        let address = self.hub_address()?;
        let hub_url = format!("https://{address}");
        let clusters = self.clusters.iter().map(|cluster| EnvironmentCluster {
            name: name_at_hub(cluster.name()),
            direct_kubeconfig: cluster.kubeconfig().to_owned(),
            agent: self.agents,
        });
        let mut environment = Environment {
            api_version: API_VERSION.to_owned(),
            kind: "DevEnvironment".to_owned(),
            hub_url,
            hub_ca: self.directory.join("hub-ca.pem"),
            kubeconfig: self.directory.join("kubeconfig"),
            clusters: clusters.collect(),
            users: Vec::new(),
            nullius: self.config.nullius.clone(),
            homes: self.directory.join("homes"),
            hub_state: self.directory.join("hub"),
            processes: Vec::new(),
        };
        let (link, image) = thread::scope(|scope| {
            let packed = scope.spawn(|| self.image());
            let enrolment = environment.init_hub();
            let packed = packed.join().unwrap_or_else(|_| bail!("packing the image panicked"));
            enrolment.and_then(|link| Ok((link, packed?)))
        })?;
        let hub = environment.start_hub(self.directory)?;
        environment.processes.push(hub);
        self.progress.done("hub", began);

        thread::scope(|scope| -> Result<()> {
            let image = image.as_ref();
            let loads: Vec<_> = self
                .clusters
                .iter()
                .map(|cluster| scope.spawn(move || self.furnish(cluster, image)))
                .collect();
            let admin = Person::enrol(&environment.hub()?, ADMIN.0, &[], &link)?;
            admin.sign_in(&environment)?;
            environment.users.push(admin);
            environment.nullius_ok_with_input("admin", &["apply", "-f", "-"], OBJECTS)?;
            for load in loads {
                load.join().unwrap_or_else(|_| bail!("bringing an image to a cluster panicked"))?;
            }
            Ok(())
        })?;
        for (cluster, joined) in self.clusters.iter().zip(&environment.clusters) {
            go_on()?;
            environment.join(cluster, joined, self.has_mesh())?;
        }
        for (name, groups, _) in PEOPLE {
            go_on()?;
            environment.add_person(name, groups)?;
        }
        self.progress.done("people, roles and grants", began);
        environment.person("dora")?.sign_in(&environment)?;
        let file = environment.kubeconfig.display().to_string();
        environment.nullius_ok("dora", &["kubeconfig", "--file", &file])?;
        environment.wait_for_agents(self.clusters)?;
        self.progress.done("agents", began);
        if self.has_mesh() {
            for cluster in self.clusters {
                nodes::wait_and_furnish(cluster, MESH)?;
            }
            self.progress.done("nodes and the sample's mesh", began);
        }
        environment.write(self.directory)?;
        Ok(environment)
    }

    /// Who runs beside a cluster runs on none of its nodes.
    fn has_mesh(&self) -> bool {
        self.config.mesh && self.agents == AgentPlace::InCluster
    }

    /// One address that people on this machine and pods both reach.
    fn hub_address(&self) -> Result<SocketAddr> {
        let from_pods = self.clusters.iter().find_map(|cluster| cluster.record().host_address);
        let host = from_pods.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let address = match self.config.port {
            0 => free_address(host)?,
            port => SocketAddr::new(host, port),
        };
        TcpListener::bind(address)
            .with_context(|| format!("the hub cannot listen on `{address}`"))?;
        Ok(address)
    }

    /// The image of the agents, where there are nodes to run it.
    fn image(&self) -> Result<Option<Image>> {
        match self.agents {
            AgentPlace::InCluster => image_from_binary(&self.config.nullius, IMAGE).map(Some),
            AgentPlace::Beside => Ok(None),
        }
    }

    /// Brings image and sample to a cluster; where no image can be brought, what needs none.
    fn furnish(&self, cluster: &Cluster, image: Option<&Image>) -> Result<()> {
        let kubectl = cluster.kubectl()?;
        let Some(image) = image else {
            let runs = |document: &&str| !document.contains("\nkind: Deployment");
            let sample: Vec<_> = SAMPLE.split("\n---\n").filter(runs).collect();
            return kubectl.apply(&sample.join("\n---\n")).map(drop);
        };
        cluster.load_image(image)?;
        kubectl.apply(SAMPLE).map(drop)
    }
}

impl Environment {
    fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(RECORD);
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

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

    /// Makes the cluster known with its label; where the agent runs in it, starts it there.
    fn join(&self, cluster: &Cluster, joined: &EnvironmentCluster, mesh: bool) -> Result<()> {
        let name = joined.name.as_str();
        if joined.agent == AgentPlace::Beside {
            let object = format!(
                "apiVersion: {API_VERSION}\nkind: Cluster\nmetadata: {{name: {name}, labels: {{env: dev}}}}\n\
                 spec: {{ceiling: cluster-admin}}\n"
            );
            return self.nullius_ok_with_input("admin", &["apply", "-f", "-"], &object).map(drop);
        }
        let mut args = vec!["cluster", "add", name, "--label", "env=dev"];
        args.extend(["--ceiling", "cluster-admin"]);
        args.extend(["--manifest", "--identity", "--image", IMAGE]);
        if mesh {
            args.push("--mesh");
            args.extend(nodes::arguments());
        }
        let manifest = nodes::of_each(cluster, mesh, &self.nullius_ok("admin", &args)?)?;
        cluster.kubectl()?.apply(&manifest).with_context(|| format!("joining `{name}`")).map(drop)
    }

    /// Waits until each cluster answers the developer through hub and agent.
    fn wait_for_agents(&self, clusters: &[Cluster]) -> Result<()> {
        let kubeconfig = BTreeMap::from([("KUBECONFIG", self.kubeconfig.display().to_string())]);
        for (own, cluster) in clusters.iter().zip(&self.clusters) {
            let direct = own.kubectl()?;
            let kubectl = Kubectl::new(direct.program(), &self.kubeconfig);
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

/// What the grants of an environment let one of its example people do, in a few words.
pub fn example_rights(person: &str) -> Option<&'static str> {
    let people = PEOPLE.iter().map(|(name, _, rights)| (*name, *rights));
    people.chain([ADMIN]).find(|(name, _)| *name == person).map(|(_, rights)| rights)
}

fn directory(state: &Path) -> PathBuf {
    state.join(DIRECTORY)
}

/// Whether an older version, which left no mark, made this directory of an environment.
pub(crate) fn is_of_older_version(directory: &Path) -> bool {
    let record = fs::read(directory.join(RECORD)).unwrap_or_default();
    owned::is_directory(directory) && serde_json::from_slice::<Environment>(&record).is_ok()
}

/// Whether this may be what an older version left of an environment that did not get ready.
pub(crate) fn may_be_of_older_version(directory: &Path) -> bool {
    let own = |name: &String| FILES.contains(&name.as_str());
    owned::is_directory(directory)
        && owned::names(directory).is_ok_and(|names| names.iter().all(own))
}

/// Where the agents of these clusters run: in them, or of the only one beside it.
fn agents_of(clusters: &[Cluster]) -> Result<AgentPlace> {
    let bare: Vec<_> =
        clusters.iter().map(Cluster::record).filter(|record| record.nodes.is_empty()).collect();
    match (bare.as_slice(), clusters.len()) {
        ([], _) => Ok(AgentPlace::InCluster),
        ([_], 1) => Ok(AgentPlace::Beside),
        ([first, ..], many) => {
            let why = first.missing.as_deref().unwrap_or("it was started without nodes");
            bail!(
                "{many} clusters, and agents cannot run in `{}`: {why}; an agent beside its cluster serves one: \
                 start a single cluster, or all of them with nodes",
                first.name
            )
        }
    }
}

/// The name of a kubeconfig's cluster (`kind-kind`, `gke_project_zone_name`) as a name at the hub: a DNS label.
fn name_at_hub(name: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = name.chars().map(fits).collect();
    let label: String = label.trim_matches('-').chars().take(63).collect();
    match label.trim_end_matches('-') {
        "" => "local".to_owned(),
        label => label.to_owned(),
    }
}

/// Lets an agent beside its cluster take back what sessions have there: the cluster may outlive it.
fn say_goodbye(state: &Path) {
    let Ok(Some(environment)) = Environment::open(state) else { return };
    if environment.clusters.iter().any(|cluster| cluster.agent == AgentPlace::Beside) {
        for process in &environment.processes {
            terminate(process.pid);
            wait_gone(&[process.pid], FAREWELL);
        }
    }
}

/// Ends the processes that carry the directory's mark: the hub has SIGKILL coming too, its store survives that.
fn end_processes(directory: &Path) {
    let running = marked(directory);
    for pid in &running {
        kill(*pid);
    }
    wait_gone(&running, Duration::from_secs(60));
}

fn command(nullius: &Path, home: &Path, args: &[&str]) -> Result<Command> {
    fs::create_dir_all(home)?;
    let mut command = Command::new(nullius);
    command.args(args).env("NULLIUS_HOME", home).env("NO_COLOR", "1").env_remove(MARKER);
    Ok(command)
}

fn run(nullius: &Path, home: &Path, args: &[&str], input: &str) -> Result<Output> {
    use std::{io::Write as _, process::Stdio};
    let mut child = command(nullius, home, args)?
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kubeconfigs_cluster_gets_a_name_at_the_hub() {
        for (name, label) in [
            ("dev", "dev"),
            ("kind-kind", "kind-kind"),
            ("gke_project_europe-west1-b_Shop", "gke-project-europe-west1-b-shop"),
            ("arn:aws:eks:eu-central-1:1:cluster/shop", "arn-aws-eks-eu-central-1-1-cluster-shop"),
            ("__", "local"),
        ] {
            assert_eq!(name_at_hub(name), label);
        }
        assert_eq!(name_at_hub(&"a_".repeat(60)).len(), 63);
    }
}
