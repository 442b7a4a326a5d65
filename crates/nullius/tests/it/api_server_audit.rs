//! The API server's own audit webhook, end at `agent control`: what it refuses by itself and what accounts of the cluster use.

use std::{fs, net::TcpListener, path::PathBuf};

use nullius_kube::{AGENT_AUDIT, AUDIT_SECRET, SYSTEM_NAMESPACE, env};
use nullius_testkit::{Kubectl, TestNamespace, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    faults_agents::{Agent, Plane, free_here},
    faults_api_server::ApiServer,
    faults_lab::{Lab, PATIENCE, Program},
    running::send_signal,
};

/// Requests of the account that are allowed.
const LISTS: usize = 7;

/// A cluster whose API server tells an agent beside it.
struct Scene<'a> {
    plane: &'a Plane,
    agent: &'a Agent,
    namespace: &'a TestNamespace,
    files: PathBuf,
}

impl Scene<'_> {
    fn get(&self, what: &[&str]) -> String {
        self.plane.kubectl(&[&["-n", SYSTEM_NAMESPACE, "get"], what].concat())
    }

    /// What an administrator does: takes file and policy out of the cluster, and starts the API server with them.
    fn configure(&self, listen: &str) -> Program {
        let form = "go-template={{with .data}}{{with .kubeconfig}}{{base64decode .}}{{end}}{{end}}";
        let kubeconfig = wait_until(PATIENCE, "the file for the API server", || {
            Some(self.get(&["secret", AUDIT_SECRET, "-o", form])).filter(|text| !text.is_empty())
        });
        // There is no node whose kube-proxy would make the Service's address lead to the agent.
        let ip = self.get(&["service", AGENT_AUDIT, "-o", "jsonpath={.spec.clusterIP}"]);
        let kubeconfig = kubeconfig.unwrap().replace(&format!("{ip}:443"), listen);
        assert!(kubeconfig.contains(listen), "{ip}");
        let policy =
            self.get(&["configmap", AGENT_AUDIT, "-o", r"jsonpath={.data.audit-policy\.yaml}"]);
        let file = |name: &str, text: &str| {
            let path = self.files.join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let more = [
            format!("--audit-webhook-config-file={}", file("audit.kubeconfig", &kubeconfig)),
            format!("--audit-policy-file={}", file("audit-policy.yaml", &policy)),
            "--audit-webhook-batch-max-wait=1s".to_owned(),
            "--audit-webhook-initial-backoff=1s".to_owned(),
        ];
        let api_server = ApiServer::of(&self.plane.cluster);
        send_signal(api_server.pid, Signal::KILL);
        let address = self.plane.cluster.record().server.trim_start_matches("https://").to_owned();
        let ended = || TcpListener::bind(&address).ok().map(drop);
        wait_until(PATIENCE, "the end of the API server", ended).unwrap();
        let started = api_server.start_with(&self.agent.file("kube-apiserver.log"), &more);
        let ready = || self.plane.cluster.is_ready().then_some(());
        wait_until(PATIENCE, "the API server", ready).unwrap();
        started
    }

    /// kubectl past Nullius, as an account of the namespace that may list and create pods.
    fn account(&self) -> Kubectl {
        let name = self.namespace.name();
        let objects = json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "page", "namespace": name } },
            { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
              "metadata": { "name": "read", "namespace": name },
              "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "create"] }] },
            { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
              "metadata": { "name": "read", "namespace": name },
              "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "read" },
              "subjects": [{ "kind": "ServiceAccount", "name": "page", "namespace": name }] },
        ] });
        self.plane.cluster.kubectl().unwrap().apply(&objects.to_string()).unwrap();
        let token = self.plane.kubectl(&["-n", name, "create", "token", "page"]);
        let record = self.plane.cluster.record();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": {
                "server": record.server, "certificate-authority": record.certificate_authority,
            } }],
            "users": [{ "name": "c", "user": { "token": token.trim() } }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "c", "namespace": name } }],
        });
        let path = self.files.join("account.kubeconfig");
        fs::write(&path, config.to_string()).unwrap();
        let kubectl = nullius_testkit::kubectl(&path).unwrap();
        kubectl.env("KUBECACHEDIR", &self.files.join("account-cache").display().to_string())
    }

    /// A policy of the API server's own, and its own Pod Security, both for the namespace alone.
    fn guard(&self) {
        let name = self.namespace.name();
        let policy = json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
              "metadata": { "name": "team-of-page" },
              "spec": {
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"],
                }] },
                "validations": [{ "expression": "has(object.metadata.labels)", "message": "no team" }],
              } },
            { "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
              "metadata": { "name": "team-of-page" },
              "spec": {
                "policyName": "team-of-page", "validationActions": ["Deny"],
                "matchResources": { "namespaceSelector": {
                    "matchLabels": { "kubernetes.io/metadata.name": name },
                } },
              } },
        ] });
        self.plane.cluster.kubectl().unwrap().apply(&policy.to_string()).unwrap();
        self.plane.kubectl(&[
            "label",
            "ns",
            name,
            "pod-security.kubernetes.io/enforce=restricted",
            "--overwrite",
        ]);
    }
}

#[test]
fn what_the_api_server_refuses_and_what_accounts_use_reaches_audit_and_uses_once() {
    let Some(plane) = Plane::second() else { return };
    let mut lab = Lab::new("");
    let listen = free_here();
    let agent = Agent::install(&lab, &plane, "second").with(env::AUDIT_LISTEN, &listen);
    let namespace = plane.cluster.namespace("told").unwrap();
    let files = agent.file("told");
    fs::create_dir(&files).unwrap();
    let scene = Scene { plane: &plane, agent: &agent, namespace: &namespace, files };
    let (mut control, _proxy) = agent.start();
    let _api_server = scene.configure(&listen);
    scene.guard();
    let account = scene.account();
    let page = format!("kubernetes:second/system:serviceaccount:{}:page", namespace.name());

    // A person, through the hub.
    let ada = lab.clerk("ada", "second", namespace.name());
    lab.apply(&format!(
        "apiVersion: nullius.dev/v1alpha1\nkind: Role\nmetadata: {{name: podder}}\nspec:\n  rules:\n  \
         - {{apiGroups: [\"\"], resources: [pods], verbs: [create, get]}}\n\
         ---\napiVersion: nullius.dev/v1alpha1\nkind: Grant\nmetadata: {{name: ada-pods}}\nspec:\n  \
         subjects: [{{kind: User, name: ada}}]\n  role: podder\n  clusters: {{names: [second]}}\n  \
         namespaces: [{}]\n",
        namespace.name()
    ));
    ada.works(PATIENCE);
    let refused = |kubectl: &Kubectl, args: &[&str], words: &str| {
        let last = wait_until(PATIENCE, &format!("a refusal with `{words}`"), || {
            let output = kubectl.run(args).unwrap();
            (output.code != 0 && output.stderr.contains(words)).then_some(())
        });
        last.unwrap();
    };
    refused(&ada.kubectl(), &["create", "configmap", "ada"], "no team");
    let pod = ["run", "loud", "--image=none", "--privileged"];
    refused(&ada.kubectl(), &pod, "violates PodSecurity");

    // An account of the cluster, past the hub.
    for _ in 0..LISTS {
        account
            .ok(&["get", "--raw", &format!("/api/v1/namespaces/{}/pods", namespace.name())])
            .unwrap();
    }
    let forbidden = ["get", "secrets"];
    refused(&account, &forbidden, "cannot list resource");
    refused(&account, &pod, "violates PodSecurity");

    let told = ["--kind", "api-server", "--outcome", "denied"];
    let wait = |lab: &Lab, what: &str, who: &str, policy: &str| {
        lab.wait_event(what, &told, |event| of(event) == who && event["facts"]["policy"] == policy)
    };
    let by_policy =
        wait(&lab, "ada's denial", "person:ada", "ValidatingAdmissionPolicy/team-of-page");
    // One Audit-ID leads to both.
    let own = ["--kind", "kube-request", "--user", "ada", "--verb", "create"];
    let joined =
        lab.wait_event("ada's request", &own, |event| event["auditId"] == by_policy["auditId"]);
    assert_eq!(by_policy["session"], joined["session"]);
    assert_eq!(by_policy["facts"]["binding"], "team-of-page");
    assert_eq!(by_policy["facts"]["through"], "hub");
    wait(&lab, "ada's pod", "person:ada", "PodSecurity/restricted");
    wait(&lab, "the account's pod", &page, "PodSecurity/restricted");
    let by_rbac = wait(&lab, "the account's secrets", &page, "Authorization");
    assert_eq!(
        (by_rbac["kube"]["resource"].as_str(), by_rbac["kube"]["code"].as_u64()),
        (Some("secrets"), Some(403))
    );
    assert_eq!(by_rbac["explanation"]["reason"], "api-server-refused");
    assert!(by_rbac["facts"].get("through").is_none());

    // The hub is away; what happens meanwhile is told when it is back, once.
    lab.hub.kill();
    for name in ["one", "two", "three"] {
        refused(&account, &["get", "secret", name], "cannot get resource");
    }
    lab.start_hub();
    for name in ["one", "two", "three"] {
        lab.wait_event(name, &told, |event| event["kube"]["name"] == name);
    }

    // What was used is told each five minutes, and when the agent ends.
    control.signal(Signal::TERM);
    control.wait_end(PATIENCE);
    let names: Vec<Value> =
        lab.events(&told).into_iter().map(|event| event["kube"]["name"].clone()).collect();
    for name in ["one", "two", "three"] {
        assert_eq!(names.iter().filter(|told| *told == name).count(), 1, "{name}: {names:?}");
    }
    let uses = lab.admin_json(&["usage", "show", "-c", "second", "--limit", "10000"]);
    let uses: Vec<&Value> = uses["items"].as_array().unwrap().iter().collect();
    let of_page = |verb: &str, resource: &str, allowed: bool| {
        let resource = format!("{resource}@{}", namespace.name());
        let is = |used: &&&Value| {
            used["plane"] == "rbac"
                && used["principal"] == *page
                && used["action"] == verb
                && used["resource"] == *resource
                && used["allowed"] == allowed
        };
        uses.iter().find(is).unwrap_or_else(|| panic!("{verb} {resource}: {uses:#?}"))
    };
    let listed = of_page("list", "core/pods", true);
    assert_eq!(listed["count"], LISTS);
    let reason = format!(
        r#"RBAC: allowed by RoleBinding "read/{0}" of Role "read" to ServiceAccount "page/{0}""#,
        namespace.name()
    );
    let id =
        nullius_audit::api_server::rbac_permission(&"second".parse().unwrap(), &reason).unwrap();
    assert_eq!(listed["permission"], id.to_string());
    assert_eq!(of_page("get", "core/secrets", false)["count"], 3);
    let sessions = uses.iter().filter(|used| used["plane"] == "rbac");
    let mut sessions =
        sessions.filter(|used| used["principal"].to_string().contains("nullius-sessions"));
    assert!(sessions.next().is_none(), "what people use the hub itself has counted");
}

/// Who an event is about, as the command line writes it.
fn of(event: &Value) -> String {
    let principal = &event["principal"];
    match principal["kind"].as_str() {
        Some("person") => format!("person:{}", principal["user"].as_str().unwrap_or_default()),
        Some("kubernetes") => format!(
            "kubernetes:{}/{}",
            principal["cluster"].as_str().unwrap_or_default(),
            principal["username"].as_str().unwrap_or_default()
        ),
        _ => principal.to_string(),
    }
}
