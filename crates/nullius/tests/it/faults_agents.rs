//! The agent's two roles beside a cluster without nodes, as processes that a test can kill, stop and mislead.
//!
//! They read what the join manifest wrote, as in a pod: pins from its ConfigMap, the join token from its Secret, and
//! tokens of the accounts that it made.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nullius_kube::{AGENT_PROXY, CEILING_BINDING, JOIN_SECRET, PROVISIONER, SYSTEM_NAMESPACE, env};
use nullius_testkit::{
    Cluster, ClusterConfig, Company, Profile, Progress, StateDir, Turn, free_address, shared,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    faults_lab::{Lab, NULLIUS, Program},
    world::session_objects,
};

/// A cluster is joined to one hub at a time.
static PLANE: Mutex<()> = Mutex::new(());
static SECOND: Mutex<()> = Mutex::new(());

/// A cluster without nodes, for one test at a time.
pub(crate) struct Plane {
    pub(crate) cluster: Cluster,
    /// Those of the agent join it too.
    _turn: Turn,
    _here: MutexGuard<'static, ()>,
}

impl Plane {
    /// The one that tests share; `None` where there is none.
    pub(crate) fn shared() -> Option<Self> {
        let cluster = shared(Profile::ControlPlane)?;
        let here = PLANE.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = cluster.turn(Company::Alone).unwrap();
        let plane = Self { cluster, _turn: turn, _here: here };
        // Each test joins it with a ceiling of its own, and Kubernetes changes no binding's role.
        plane.kubectl(&["delete", "clusterrolebinding", CEILING_BINDING, "--ignore-not-found"]);
        Some(plane)
    }

    /// Another one, which a test may break: it is started when there is none, and ends with the test run.
    pub(crate) fn second() -> Option<Self> {
        shared(Profile::ControlPlane)?;
        let here = SECOND.lock().unwrap_or_else(PoisonError::into_inner);
        let state = StateDir::open(Path::new(&std::env::var_os("NULLIUS_TEST_STATE")?)).unwrap();
        let running = state.cluster("second").unwrap().filter(Cluster::is_ready);
        let cluster = running.unwrap_or_else(|| {
            let config = ClusterConfig::new("second", Profile::ControlPlane).own();
            Cluster::up(&state, config, Progress::Silent).unwrap()
        });
        let turn = cluster.turn(Company::Alone).unwrap();
        Some(Self { cluster, _turn: turn, _here: here })
    }

    /// Runs kubectl past Nullius, as an administrator.
    #[track_caller]
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        self.cluster.kubectl().unwrap().ok(args).unwrap()
    }

    /// What stands in the cluster for a session.
    #[track_caller]
    pub(crate) fn session_objects(&self, session: &str) -> Vec<String> {
        session_objects(&self.cluster.kubectl().unwrap(), session)
    }
}

/// The settings of an agent beside a cluster: what its pods would find in their environment and files.
pub(crate) struct Agent {
    pub(crate) variables: Vec<(String, String)>,
    files: TempDir,
    control: String,
}

impl Agent {
    /// Applies the join manifest of a cluster, and reads it as the agent's pods would. Nothing runs yet.
    #[track_caller]
    pub(crate) fn install(lab: &Lab, plane: &Plane, name: &str) -> Self {
        let add = ["cluster", "add", name, "--ceiling", "edit", "--manifest", "--image", "none"];
        let manifest = lab.admin(&add);
        // There is no node to run them.
        let runs = |document: &&str| !document.contains("\nkind: Deployment");
        let documents: Vec<_> = manifest.split("\n---\n").filter(runs).collect();
        let kubectl = plane.cluster.kubectl().unwrap();
        kubectl.apply(&documents.join("\n---\n")).unwrap();

        let get = |what: &[&str]| plane.kubectl(&[&["-n", SYSTEM_NAMESPACE, "get"], what].concat());
        let pins: Value =
            serde_json::from_str(&get(&["configmap", "nullius-agent", "-o", "json"])).unwrap();
        let pin = |name: &str| pins["data"][name].as_str().unwrap().to_owned();
        let decoded = "go-template={{.data.token|base64decode}}";
        let join = get(&["secret", JOIN_SECRET, "-o", decoded]);

        let files = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &[u8]| -> String {
            let path = files.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let token = |account: &str, more: &[&str]| {
            let create = ["-n", SYSTEM_NAMESPACE, "create", "token", account, "--duration=1h"];
            plane.kubectl(&[&create[..], more].concat())
        };
        let for_hub = |account: &str| {
            kubectl.apply(&waiting_pod(account)).unwrap();
            let bound = ["--audience=nullius-hub", "--bound-object-kind=Pod"];
            token(account, &[&bound[..], &["--bound-object-name", account]].concat())
        };
        let (host, port) =
            plane.cluster.record().server["https://".len()..].rsplit_once(':').unwrap();
        let authority = fs::read(&plane.cluster.record().certificate_authority).unwrap();
        let control = free_here();
        let variables = [
            (env::CLUSTER, pin("cluster")),
            (env::HUB, pin("hub")),
            (env::HUB_ID, pin("hub-id")),
            (env::OFFLINE_KEY, pin("offline-key")),
            (env::INFRA_CA_FILE, file("infra-ca.pem", pin("infra-ca.pem").as_bytes())),
            (env::API_CA_FILE, file("ca.crt", &authority)),
            (env::API_TOKEN_FILE, file("api-token", token(PROVISIONER, &[]).as_bytes())),
            (env::JOIN_TOKEN_FILE, file("join-token", join.as_bytes())),
            (env::CONTROL, control.clone()),
            ("KUBERNETES_SERVICE_HOST", host.to_owned()),
            ("KUBERNETES_SERVICE_PORT", port.to_owned()),
        ];
        file("control-hub-token", for_hub(PROVISIONER).as_bytes());
        file("proxy-hub-token", for_hub(AGENT_PROXY).as_bytes());
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Self { variables, files, control }
    }

    /// The same with a variable set otherwise.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The join token that the manifest brought.
    pub(crate) fn join_token(&self) -> String {
        fs::read_to_string(self.file("join-token")).unwrap()
    }

    pub(crate) fn set_join_token(&self, token: &str) {
        fs::write(self.file("join-token"), token).unwrap();
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    pub(crate) fn control(&self) -> Program {
        self.role("control", &[(env::LISTEN, &self.control)])
    }

    pub(crate) fn proxy(&self) -> Program {
        self.role("proxy", &[])
    }

    fn role(&self, role: &str, more: &[(&str, &str)]) -> Program {
        let mut command = Command::new(NULLIUS);
        command
            .args(["agent", role])
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env(env::HUB_TOKEN_FILE, self.file(&format!("{role}-hub-token")))
            .envs(more.iter().copied());
        let log = self.file(&format!("{role}.log"));
        Program::start(&format!("agent {role}"), &log, &mut command)
    }

    /// Starts both roles and waits until requests have a way.
    #[track_caller]
    pub(crate) fn start(&self) -> (Program, Program) {
        let mut control = self.control();
        let mut proxy = self.proxy();
        control.wait_said("attach to the hub");
        proxy.wait_said("serve a tunnel");
        (control, proxy)
    }
}

/// A pod of an account for which there is no node: the hub takes only tokens that are bound to a pod.
fn waiting_pod(account: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": account, "namespace": SYSTEM_NAMESPACE },
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": false,
            "securityContext": { "runAsNonRoot": true, "runAsUser": 65_532, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "agent", "image": "none",
                "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
            }],
        },
    })
    .to_string()
}

/// An address on this machine that nobody listens on, and that no connection takes.
pub(crate) fn free_here() -> String {
    free_address(Ipv4Addr::LOCALHOST.into()).unwrap().to_string()
}
