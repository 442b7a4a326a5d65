//! kubectl's credential: short-lived, one for all processes, never in a kubeconfig.

use std::{fs, path::PathBuf, thread};

use nullius_testkit::Output;
use serde_json::{Value, json};

use crate::{
    people::Worker,
    trail::{events, text},
    world::{World, ended_with},
};

impl Worker<'_> {
    /// The files of the command line's session, `session` and kubectl's `credential`.
    fn files(&self) -> (PathBuf, PathBuf) {
        let folder = self.kubeconfig.with_file_name("sessions");
        let mut names: Vec<PathBuf> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let ends = |end: &str| names.iter().find(|path| path.to_str().unwrap().ends_with(end));
        let credential = ends(".kube.json").cloned();
        let session = names.iter().find(|path| {
            let path = path.to_str().unwrap();
            path.ends_with(".json") && !path.ends_with(".kube.json")
        });
        let session = session.unwrap().clone();
        (session.clone(), credential.unwrap_or_else(|| session.with_extension("kube.json")))
    }

    /// Makes both tokens look as they do after a night: the next kubectl has to refresh.
    pub(crate) fn expire_credential(&self) {
        let (session, credential) = self.files();
        let past = json!("2020-01-01T00:00:00Z");
        for (file, fields) in [
            (session, &["accessExpiresAt", "access_expires_at"]),
            (credential, &["expiresAt", "expires_at"]),
        ] {
            let Ok(text) = fs::read_to_string(&file) else { continue };
            let mut value: Value = serde_json::from_str(&text).unwrap();
            let field = fields.iter().find(|field| value.get(**field).is_some()).unwrap();
            value[*field] = past.clone();
            fs::write(&file, value.to_string()).unwrap();
        }
    }
}

/// What kubectl tells its plugin.
const ASKS: &str = r#"{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","spec":{"interactive":false}}"#;
/// How many of the two hundred are whole; of the others only their plugins run, as kubectl itself would keep a slow machine busy for
/// longer than a plugin waits for the hub.
const WHOLE: usize = 40;

#[test]
fn two_hundred_kubectl_with_an_expired_credential_refresh_once() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("many");
    let kubectl = worker.kubectl();
    kubectl.ok(&["get", "--raw", "/version"]).unwrap();
    let refreshes = || {
        let filter = ["--user", worker.name.as_str(), "--kind", "refresh"];
        let events = events(&world, &filter);
        events.iter().map(|event| text(event, "/outcome").to_owned()).collect::<Vec<_>>()
    };
    let before = refreshes().len();
    worker.expire_credential();
    thread::scope(|scope| {
        let plugin = || {
            let asked = ["kubeconfig", "credential"];
            let mut command = world.environment.command(&worker.name, &asked).unwrap();
            let output = command.env("KUBERNETES_EXEC_INFO", ASKS).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{said}");
        };
        let whole = || {
            let output = kubectl.run(&["get", "--raw", "/version"]).unwrap();
            assert_eq!(output.code, 0, "{}", output.stderr);
        };
        let runs: Vec<_> = (0..200)
            .map(|number| match number % (200 / WHOLE) {
                0 => scope.spawn(whole),
                _ => scope.spawn(plugin),
            })
            .collect();
        for run in runs {
            run.join().unwrap();
        }
    });
    let after = refreshes();
    assert_eq!(after.len() - before, 1, "{after:?}");
    assert_eq!(after[0], "done");
}

#[test]
fn no_secret_stands_in_a_kubeconfig() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("secretless");
    worker.kubectl().ok(&["get", "pods"]).unwrap();
    let text = fs::read_to_string(&worker.kubeconfig).unwrap();
    let config: Value = {
        let view = worker.kubectl().ok(&["config", "view", "--raw", "-o", "json"]).unwrap();
        serde_json::from_str(&view).unwrap()
    };
    let user = &config["users"][0]["user"];
    let fields: Vec<&String> = user.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["exec"], "{user:#}");
    let (session, credential) = worker.files();
    for file in [session, credential] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        let held: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        for (name, value) in held.as_object().unwrap() {
            if name.to_lowercase().contains("token") {
                assert!(!text.contains(value.as_str().unwrap()), "{name} stands in the kubeconfig");
            }
        }
    }
    // The credential opens Kubernetes paths alone, and the hub's own token does not open those.
    let printed: Value =
        serde_json::from_str(&worker.nullius_ok(&["kubeconfig", "credential"])).unwrap();
    assert_eq!(printed["kind"], "ExecCredential");
    let token = printed["status"]["token"].as_str().unwrap();
    ended_with(&bare(&world, &worker, token), 0);
    let held: Value = serde_json::from_str(&fs::read_to_string(worker.files().0).unwrap()).unwrap();
    let field = ["accessToken", "access_token"].into_iter().find(|name| held.get(name).is_some());
    let access = held[field.unwrap()].as_str().unwrap();
    let refused = bare(&world, &worker, access);
    ended_with(&refused, 1);
    assert!(refused.stderr.contains("the access token is for another use"), "{}", refused.stderr);
}

/// The answer to a request for `/version` with a token of one's choice, and nothing else.
fn bare(world: &World, worker: &Worker<'_>, token: &str) -> Output {
    let kubeconfig = worker.kubeconfig.with_file_name("bare-kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: \"{}/clusters/{}/\", certificate-authority: \"{}\"}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{token: {token}}}}}]\n",
        world.environment.hub_url,
        world.cluster_name(),
        world.environment.hub_ca.display(),
    );
    fs::write(&kubeconfig, text).unwrap();
    let kubectl = nullius_testkit::kubectl(&kubeconfig).unwrap();
    kubectl.run(&["get", "--raw", "/version"]).unwrap()
}
