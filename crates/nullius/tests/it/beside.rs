//! Hub and agent as one process beside a kubeconfig: a newcomer's first minutes, and the environment of a machine
//! without nodes.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nullius_cli::Fingerprint;
use nullius_testkit::{
    AgentPlace, Api, Environment, EnvironmentConfig, Kubectl, Output, Person, Progress, kubectl,
    wait_until,
};
use nullius_tls::UnverifiedPeer;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    faults_agents::{Plane, free_here},
    faults_lab::{NULLIUS, PATIENCE, Program},
    running::Running,
    world::ended_with,
};

/// Ctrl-C ends it in this time, what sessions had included.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A directory that a newcomer works in.
struct Newcomer {
    files: TempDir,
    /// What `nullius up` printed tells the rest.
    up: Program,
}

impl Newcomer {
    fn start(plane: &Plane) -> Self {
        let files = tempfile::tempdir().unwrap();
        let up = up(files.path(), &free_here(), plane.cluster.kubeconfig(), "up.log");
        Self { files, up }
    }

    /// The word behind a text in what `up` printed.
    fn printed(&mut self, before: &str) -> String {
        let line = self.up.wait_said(before);
        let rest = line.split(before).nth(1).unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    }

    /// A second one on the same address or the same state says so, and makes nothing.
    #[track_caller]
    fn is_alone_at(&self, address: &str, plane: &Plane) {
        let kubeconfig = plane.cluster.kubeconfig();
        let fresh = self.files.path().join("fresh");
        let state = self.files.path().join("state");
        for (listen, state, told) in [
            (address, &fresh, format!("`{address}` is in use by another program")),
            ("127.0.0.1:0", &state, "is in use by process".to_owned()),
        ] {
            let mut command = Command::new(NULLIUS);
            command.args(["up", "--listen", listen, "--kubeconfig"]).arg(kubeconfig);
            command.arg("--state").arg(state).env("NO_COLOR", "1");
            let (code, said) = Running::start("a second `up`", command).wait_end(PATIENCE);
            assert_eq!(code, 1, "{said}");
            assert!(said.contains(&told), "{said}");
        }
        assert!(!fresh.exists());
    }

    fn home(&self, person: &str) -> PathBuf {
        self.files.path().join(person)
    }

    fn nullius(&self, person: &str, args: &[&str], input: &str) -> Output {
        use std::{io::Write as _, process::Stdio};
        let mut child = Command::new(NULLIUS)
            .args(args)
            .env("NULLIUS_HOME", self.home(person))
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        Output {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap(),
        }
    }

    #[track_caller]
    fn nullius_ok(&self, person: &str, args: &[&str], input: &str) -> String {
        let output = self.nullius(person, args, input);
        ended_with(&output, 0);
        output.stdout
    }
}

fn up(files: &Path, listen: &str, kubeconfig: &Path, log: &str) -> Program {
    let config = files.join("nullius.toml");
    fs::write(&config, "drain = \"2s\"\n").unwrap();
    let mut command = Command::new(NULLIUS);
    command.args(["up", "--listen", listen, "--kubeconfig"]).arg(kubeconfig);
    command.arg("--state").arg(files.join("state")).arg("--config").arg(config);
    Program::start("nullius up", &files.join(log), &mut command)
}

/// The root that a hub claims to have, in PEM, over a connection that is believed nothing: what a browser's warning
/// shows.
fn claimed_root(address: &str) -> String {
    nullius_tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut stream = UnverifiedPeer::connect(tcp, "127.0.0.1").await.unwrap().into_stream();
        let request =
            format!("GET /v1/hub HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The end may come without a goodbye.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    });
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    body["ca"].as_str().unwrap().to_owned()
}

#[test]
fn a_newcomer_gets_from_a_kubeconfig_to_kubectl_through_the_hub() {
    let Some(plane) = Plane::shared() else { return };
    let mut newcomer = Newcomer::start(&plane);

    // The link and the sign-in are as printed; the browser's warning shows the root that was printed too.
    // Where the output is no terminal, the link stands in a file: not in a service's log.
    let file = newcomer.printed("the link in `");
    let link = fs::read_to_string(file.trim_end_matches('`')).unwrap();
    let token = link.trim().split("/enrol?token=").nth(1).unwrap().to_owned();
    assert!(!newcomer.up.said().contains(&token));
    let hub = newcomer.printed("nullius login --hub ");
    let fingerprint = newcomer.printed("--ca-fingerprint ");
    let address = hub.trim_start_matches("https://");
    newcomer.is_alone_at(address, &plane);
    let root = claimed_root(address);
    assert_eq!(Fingerprint::of_pem(&root).unwrap().to_string(), fingerprint);
    let ca = newcomer.files.path().join("ca.pem");
    fs::write(&ca, root).unwrap();
    let api = Api::anonymous(address.parse().unwrap(), &ca).unwrap();
    let admin = Person::enrol(&api, "admin", &[], &token).unwrap();
    let sign_in = |newcomer: &Newcomer, person: &Person| {
        let input = format!("{}\n{}\n{}\n", person.name, person.password, person.code().unwrap());
        let login = ["login", "--hub", &hub, "--ca-fingerprint", &fingerprint, "--password-stdin"];
        newcomer.nullius_ok(&person.name, &login, &input);
    };
    sign_in(&newcomer, &admin);

    // A colleague, who may do something.
    let link = newcomer.nullius_ok("admin", &["user", "add", "ada", "-o", "json"], "");
    let link: Value = serde_json::from_str(&link).unwrap();
    let ada = Person::enrol(&api, "ada", &[], link["token"].as_str().unwrap()).unwrap();
    let namespace = plane.cluster.namespace("newcomer").unwrap();
    let objects = format!(
        "apiVersion: nullius.dev/v1alpha1\nkind: Role\nmetadata: {{name: clerk}}\nspec:\n  rules:\n  \
         - {{apiGroups: [\"\"], resources: [configmaps], verbs: [get, list, watch, create]}}\n\
         ---\napiVersion: nullius.dev/v1alpha1\nkind: Grant\nmetadata: {{name: ada-works}}\nspec:\n  \
         subjects: [{{kind: User, name: ada}}]\n  role: clerk\n  clusters: {{names: [local]}}\n  \
         namespaces: [{}]\n",
        namespace.name()
    );
    newcomer.nullius_ok("admin", &["apply", "-f", "-"], &objects);
    sign_in(&newcomer, &ada);
    let kubeconfig = newcomer.home("ada").join("kubeconfig");
    newcomer.nullius_ok("ada", &["kubeconfig", "--file", &kubeconfig.display().to_string()], "");
    let kubectl = kubectl(&kubeconfig).unwrap().env("NULLIUS_HOME", "/nonexistent");
    let context = format!("--namespace={}", namespace.name());
    kubectl.ok(&["config", "set-context", "--current", &context]).unwrap();
    works(&kubectl);
    kubectl.ok(&["create", "configmap", "mine", "--from-literal=a=b"]).unwrap();
    let mine = namespace.kubectl(&["get", "configmap", "mine", "-o", "jsonpath={.data.a}"]);
    assert_eq!(mine.unwrap(), "b");
    let refused = kubectl.run(&["get", "secrets"]).unwrap();
    ended_with(&refused, 1);
    assert!(refused.stderr.contains("`ada` may not list `secrets`"), "{}", refused.stderr);
    let mut watch = Running::start("watch", kubectl.command(&["get", "configmaps", "--watch"]));
    watch.wait_line("mine");
    let me = newcomer.nullius_ok("ada", &["whoami", "-o", "json"], "");
    let session =
        serde_json::from_str::<Value>(&me).unwrap()["session"].as_str().unwrap().to_owned();
    assert!(!plane.session_objects(&session).is_empty());

    // Ctrl-C: what runs is told, and nothing of the session stays in the cluster.
    newcomer.up.signal(Signal::INT);
    assert_eq!(newcomer.up.wait_end(ENDS_WITHIN), 0);
    assert!(!newcomer.up.said().contains("refuse tunnel"), "{}", newcomer.up.said());
    watch.wait_end(PATIENCE);
    let left = plane.session_objects(&session);
    assert!(left.is_empty(), "{left:?}");
    ended_with(&kubectl.run(&["get", "configmaps"]).unwrap(), 1);

    // It goes on where it was: nobody enrols again, and the session still counts.
    let kubeconfig = plane.cluster.kubeconfig();
    newcomer.up = up(newcomer.files.path(), address, kubeconfig, "again.log");
    works(&kubectl);
    assert!(!newcomer.up.said().contains("the link in"), "{}", newcomer.up.said());

    // A removed cluster: its streams are cut, what was made in it goes, and it is unknown.
    let mut watch = Running::start("watch", kubectl.command(&["get", "configmaps", "--watch"]));
    watch.wait_line("mine");
    newcomer.nullius_ok("admin", &["cluster", "remove", "local", "--yes"], "");
    watch.wait_end(PATIENCE);
    wait_until(PATIENCE, "the session's objects to go", || {
        plane.session_objects(&session).is_empty().then_some(())
    })
    .unwrap();
    let unknown = kubectl.run(&["get", "--raw", "/api/v1/configmaps"]).unwrap();
    ended_with(&unknown, 1);
    assert!(unknown.stderr.contains("`local` does not exist"), "{}", unknown.stderr);
    newcomer.up.signal(Signal::TERM);
    assert_eq!(newcomer.up.wait_end(ENDS_WITHIN), 0);
}

#[track_caller]
fn works(kubectl: &Kubectl) {
    let mut last = String::new();
    let worked = wait_until(PATIENCE, "kubectl to work", || {
        let output = kubectl.run(&["get", "configmaps"]).unwrap();
        last = output.stderr;
        (output.code == 0).then_some(())
    });
    worked.unwrap_or_else(|error| panic!("{error}: {last}"));
}

#[test]
fn an_environment_without_nodes_has_its_agent_beside_the_cluster() {
    let Some(plane) = Plane::shared() else { return };
    let state = tempfile::tempdir().unwrap();
    let config = EnvironmentConfig::new(state.path(), PathBuf::from(NULLIUS));
    let clusters = vec![plane.cluster.clone()];
    let environment = Environment::start(config, clusters, Progress::Silent).unwrap();
    let _stopped = Stopped(state.path().to_owned());
    assert_eq!(environment.clusters.len(), 1);
    assert_eq!(environment.clusters[0].agent, AgentPlace::Beside);
    assert_eq!(environment.clusters[0].name, plane.cluster.name());
    // The example grants are for clusters with its label.
    let kubectl = kubectl(&environment.kubeconfig).unwrap();
    kubectl.ok(&["-n", "shop", "get", "configmap", "web-pages"]).unwrap();
    let refused = kubectl.run(&["-n", "ops", "get", "secrets"]).unwrap();
    ended_with(&refused, 1);
    let rows = environment.nullius_ok("dora", &["access", "list", "-o", "json"]).unwrap();
    let rows: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows["items"][0]["grant"], "developers-shop");
    assert_eq!(rows["items"][0]["reachable"], true);

    let me = environment.nullius_ok("dora", &["whoami", "-o", "json"]).unwrap();
    let session =
        serde_json::from_str::<Value>(&me).unwrap()["session"].as_str().unwrap().to_owned();
    assert!(!plane.session_objects(&session).is_empty());
    let hub: SocketAddr = environment.hub_url.trim_start_matches("https://").parse().unwrap();
    Environment::stop(state.path(), Progress::Silent).unwrap();
    assert!(TcpStream::connect(hub).is_err());
    assert!(plane.session_objects(&session).is_empty());

    // More than one cluster needs agents in them.
    let config = EnvironmentConfig::new(state.path(), PathBuf::from(NULLIUS));
    let clusters = vec![plane.cluster.clone(), plane.cluster.clone()];
    let error = Environment::start(config, clusters, Progress::Silent).unwrap_err();
    assert!(format!("{error:#}").contains("start a single cluster"), "{error:#}");
}

/// Stops an environment whatever happens.
struct Stopped(PathBuf);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = Environment::stop(&self.0, Progress::Silent);
    }
}
