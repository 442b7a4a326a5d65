//! A hub of a test's own, with the configuration, disk and clock that the test wants: a process of this machine.
//!
//! Tests of faults break what they use, so they do not use what others share. Where a cluster is needed, the agent's
//! roles run beside it as processes too, see [`crate::faults_agents`].

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nullius_testkit::{Api, Environment, Kubectl, Output, Person, kubectl, wait_until};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{faults_agents::free_here, running::send_signal, world::ended_with};

/// How long something that should come may take on a machine that is slow and busy: nobody waits longer than for it to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// The binary under test.
pub(crate) const NULLIUS: &str = env!("CARGO_BIN_EXE_nullius");

/// A program with its output in a file; killed with the value.
pub(crate) struct Program {
    what: String,
    child: Child,
    log: PathBuf,
}

impl Program {
    pub(crate) fn start(what: &str, log: &Path, command: &mut Command) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = command
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { what: what.to_owned(), child, log: log.to_owned() }
    }

    /// All that it has printed, also in earlier lives.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for a line that contains a text.
    #[track_caller]
    pub(crate) fn wait_said(&mut self, part: &str) -> String {
        let found = wait_until(PATIENCE, &format!("`{part}` of {}", self.what), || {
            self.said().lines().find(|line| line.contains(part)).map(str::to_owned)
        });
        found.unwrap_or_else(|error| panic!("{error}; it said:\n{}", self.said()))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        send_signal(self.child.id(), signal);
    }

    /// Waits for its end by itself; gives its exit code.
    #[track_caller]
    pub(crate) fn wait_end(&mut self, within: Duration) -> i32 {
        let end = format!("the end of {}", self.what);
        let status = wait_until(within, &end, || self.child.try_wait().unwrap());
        let status = status.unwrap_or_else(|error| panic!("{error}; it said:\n{}", self.said()));
        status.code().unwrap_or(-1)
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<_> = said.lines().collect();
            let tail = lines[lines.len().saturating_sub(25)..].join("\n");
            eprintln!("--- {} said at last:\n{tail}", self.what);
        }
    }
}

/// A hub of a test's own, whose admin is signed in.
pub(crate) struct Lab {
    pub(crate) environment: Environment,
    pub(crate) hub: Program,
    pub(crate) files: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Lab {
    /// A hub with this configuration (TOML).
    pub(crate) fn new(config: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let state = files.path().join("hub");
        Self::with(files, state, config, Vec::new())
    }

    /// A hub with its state in a directory of the caller's choice, and variables in its environment.
    pub(crate) fn with(
        files: TempDir,
        hub_state: PathBuf,
        config: &str,
        variables: Vec<(&'static str, String)>,
    ) -> Self {
        fs::write(files.path().join("hub.toml"), config).unwrap();
        let made = init(&hub_state);
        let hub_ca = files.path().join("hub-ca.pem");
        fs::write(&hub_ca, made["ca"].as_str().unwrap()).unwrap();
        let (hub, address) = start_hub(files.path(), &hub_state, &free_here(), &variables);
        let environment = Environment {
            api_version: "nullius.dev/v1alpha1".to_owned(),
            kind: "DevEnvironment".to_owned(),
            hub_url: format!("https://{address}"),
            hub_ca,
            kubeconfig: files.path().join("kubeconfig"),
            clusters: Vec::new(),
            users: Vec::new(),
            nullius: PathBuf::from(NULLIUS),
            homes: files.path().join("homes"),
            hub_state,
            processes: Vec::new(),
        };
        let mut lab = Self { environment, hub, files, variables };
        lab.wait_ready();
        let token = made["token"].as_str().unwrap();
        let admin = Person::enrol(&lab.api(), "admin", &[], token).unwrap();
        admin.sign_in(&lab.environment).unwrap();
        lab.environment.users.push(admin);
        lab
    }

    pub(crate) fn api(&self) -> Api {
        self.environment.hub().unwrap()
    }

    /// The hub's `host:port`.
    pub(crate) fn address(&self) -> &str {
        self.environment.hub_url.trim_start_matches("https://")
    }

    /// Starts the hub again, after its end, at the same address.
    pub(crate) fn start_hub(&mut self) {
        let address = self.address().to_owned();
        let state = self.environment.hub_state.clone();
        self.hub = start_hub(self.files.path(), &state, &address, &self.variables).0;
        self.wait_ready();
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let ready = wait_until(PATIENCE, "the hub to be ready", || {
            let ended = self.hub.child.try_wait().unwrap();
            assert!(ended.is_none(), "the hub has ended: {}", self.hub.said());
            self.api().get("/readyz").ok().filter(|answer| answer.status == 200)
        });
        ready.unwrap();
    }

    /// Runs the command line as the hub's admin.
    #[track_caller]
    pub(crate) fn admin(&self, args: &[&str]) -> String {
        self.environment.nullius_ok("admin", args).unwrap()
    }

    /// As [`Self::admin`], with the answer read as JSON.
    #[track_caller]
    pub(crate) fn admin_json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.admin(&[args, &["-o", "json"]].concat())).unwrap()
    }

    /// Applies objects at the hub as its admin.
    #[track_caller]
    pub(crate) fn apply(&self, objects: &str) {
        self.environment.nullius_ok_with_input("admin", &["apply", "-f", "-"], objects).unwrap();
    }

    /// Signs the admin in again.
    pub(crate) fn admin_again(&self) {
        let admin = self.environment.person("admin").unwrap();
        wait_until(PATIENCE, "a code of the admin that counts", || {
            [admin.code(), admin.next_code()]
                .into_iter()
                .find_map(|code| admin.sign_in_with(&self.environment, &code.unwrap()).ok())
        })
        .unwrap();
    }

    /// A sign-in at the terminal in somebody's command-line home.
    pub(crate) fn login(&self, home: &str, user: &str, password: &str, code: &str) -> Output {
        let input = format!("{user}\n{password}\n{code}\n");
        let ca = self.environment.hub_ca.display().to_string();
        let args = ["login", "--hub", &self.environment.hub_url, "--ca", &ca, "--password-stdin"];
        self.environment.nullius_with_input(home, &args, &input).unwrap()
    }

    /// Events of the audit, newest first.
    #[track_caller]
    pub(crate) fn events(&self, filter: &[&str]) -> Vec<Value> {
        let answer = self.admin_json(&[&["audit", "list", "--limit", "20000"], filter].concat());
        let rows = answer["items"].as_array().unwrap();
        rows.iter().map(|row| row["event"].clone()).collect()
    }

    /// Waits for an event.
    #[track_caller]
    pub(crate) fn wait_event(
        &self,
        what: &str,
        filter: &[&str],
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> Value {
        let found = wait_until(PATIENCE, what, || {
            self.events(filter).into_iter().find(|event| wanted(event))
        });
        found.unwrap_or_else(|error| panic!("{error}: {:#?}", self.events(filter)))
    }

    /// Somebody signed in who may work with the ConfigMaps of one namespace of a cluster.
    #[track_caller]
    pub(crate) fn clerk(&self, name: &str, cluster: &str, namespace: &str) -> Clerk<'_> {
        let person = self.environment.new_person(name, &[]).unwrap();
        self.apply(&format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: Role\nmetadata: {{name: clerk}}\nspec:\n  rules:\n  \
             - {{apiGroups: [\"\"], resources: [configmaps], verbs: [get, list, watch, create, delete]}}\n\
             ---\napiVersion: nullius.dev/v1alpha1\nkind: Grant\nmetadata: {{name: {name}-works}}\nspec:\n  \
             subjects: [{{kind: User, name: {name}}}]\n  role: clerk\n  clusters: {{names: [{cluster}]}}\n  \
             namespaces: [{namespace}]\n"
        ));
        person.sign_in(&self.environment).unwrap();
        let kubeconfig = self.environment.homes.join(name).join("kubeconfig");
        let clerk = Clerk { lab: self, person, kubeconfig };
        clerk.nullius_ok(&["kubeconfig", "--file", &clerk.kubeconfig.display().to_string()]);
        let namespace = format!("--namespace={namespace}");
        clerk.kubectl().ok(&["config", "set-context", "--current", &namespace]).unwrap();
        clerk
    }
}

/// A person at work at a [`Lab`].
pub(crate) struct Clerk<'l> {
    pub(crate) person: Person,
    kubeconfig: PathBuf,
    lab: &'l Lab,
}

impl Clerk<'_> {
    pub(crate) fn kubectl(&self) -> Kubectl {
        // One for all: kubectl does not tell what a server says to its first look around.
        let cache = self.lab.files.path().join("cache");
        kubectl(&self.kubeconfig).unwrap().env("KUBECACHEDIR", &cache.display().to_string())
    }

    pub(crate) fn nullius(&self, args: &[&str]) -> Output {
        self.lab.environment.nullius(&self.person.name, args).unwrap()
    }

    #[track_caller]
    pub(crate) fn nullius_ok(&self, args: &[&str]) -> String {
        let output = self.nullius(args);
        ended_with(&output, 0);
        output.stdout
    }

    /// What `whoami` says.
    #[track_caller]
    pub(crate) fn me(&self) -> Value {
        serde_json::from_str(&self.nullius_ok(&["whoami", "-o", "json"])).unwrap()
    }

    /// Waits until kubectl works; gives how long that took.
    #[track_caller]
    pub(crate) fn works(&self, within: Duration) -> Duration {
        let began = Instant::now();
        let mut last = String::new();
        let worked = wait_until(within, "kubectl to work", || {
            let output = self.kubectl().run(&["get", "configmaps"]).unwrap();
            last.clone_from(&output.stderr);
            (output.code == 0).then_some(())
        });
        worked.unwrap_or_else(|error| panic!("{error}: {last}"));
        began.elapsed()
    }

    /// Waits until kubectl is refused; gives what it says.
    #[track_caller]
    pub(crate) fn is_refused(&self, within: Duration, part: &str) -> String {
        let mut last = String::new();
        let refused = wait_until(within, &format!("kubectl to be told `{part}`"), || {
            let output = self.kubectl().run(&["get", "configmaps"]).unwrap();
            last = format!("{}{}", output.stdout, output.stderr);
            (output.code == 1 && output.stderr.contains(part)).then_some(output.stderr)
        });
        refused.unwrap_or_else(|error| panic!("{error}; at last it said: {last}"))
    }
}

/// Makes a hub's state; gives what `hub init` prints.
fn init(state: &Path) -> Value {
    let output = Command::new(NULLIUS)
        .args(["hub", "init", "-o", "json", "--state"])
        .arg(state)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Starts the hub, and gives where it listens.
fn start_hub(
    files: &Path,
    state: &Path,
    listen: &str,
    variables: &[(&'static str, String)],
) -> (Program, String) {
    let log = files.join("hub.log");
    let earlier = fs::read_to_string(&log).unwrap_or_default().len();
    let mut command = Command::new(NULLIUS);
    command.args(["hub", "--listen", listen, "--state"]).arg(state);
    command.arg("--config").arg(files.join("hub.toml"));
    command.envs(variables.iter().map(|(name, value)| (*name, value)));
    let mut hub = Program::start("the hub", &log, &mut command);
    let listens = wait_until(PATIENCE, "the hub to listen", || {
        let said = hub.said();
        let address = said[earlier..].split("listen address=").nth(1)?.split_whitespace().next();
        let ended = hub.child.try_wait().unwrap();
        assert!(ended.is_none(), "the hub has ended: {said}");
        address.map(str::to_owned)
    });
    let address = listens.unwrap_or_else(|error| panic!("{error}: {}", hub.said()));
    (hub, address)
}
