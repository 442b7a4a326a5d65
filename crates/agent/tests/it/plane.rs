//! A cluster without nodes, joined as beside a kubeconfig, and people with other rights in it.

use nullius_kube::{
    Administrator, ApiServer, Credential, Guards, JoinManifest, OwnAccount, Sessions, Shape,
    SharedToken,
};
use nullius_model::{Binding, Ceiling, PolicyRule, SessionId, SessionPlan, Timestamp, Ttl};
use nullius_pki::random_bits;
use nullius_testkit::{
    Cluster, Company, Kubectl, Output, Profile, TestNamespace, Turn, kubectl, shared,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// What is joined to is one for the whole cluster, so these tests come one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

pub(crate) const CEILING: &str = "edit";

pub(crate) struct Plane {
    pub(crate) cluster: Cluster,
    pub(crate) admin: Kubectl,
    pub(crate) api: ApiServer,
    pub(crate) administrator: Administrator,
    pub(crate) files: TempDir,
    /// End-to-end tests join it as well.
    _turn: Turn,
    _alone: MutexGuard<'static, ()>,
}

/// The cluster with the manifest of the beside shape in force; `None` where there is none.
pub(crate) async fn plane() -> Option<Plane> {
    let cluster = shared(Profile::ControlPlane)?;
    let alone = ONE_AT_A_TIME.lock().await;
    let turn = cluster.turn(Company::Alone).unwrap();
    nullius_tls::install_provider();
    let (api, administrator) =
        Administrator::from_kubeconfig(cluster.kubeconfig(), None).await.unwrap();
    administrator.apply(&beside()).await.unwrap();
    let plane = Plane {
        admin: cluster.kubectl().unwrap(),
        cluster,
        api,
        administrator,
        files: TempDir::new().unwrap(),
        _turn: turn,
        _alone: alone,
    };
    plane.wait_for_guards().await;
    Some(plane)
}

pub(crate) fn beside() -> JoinManifest {
    JoinManifest {
        cluster: "plane".parse().unwrap(),
        ceiling: Ceiling::try_from(CEILING.to_owned()).unwrap(),
        shape: Shape::Beside,
    }
}

impl Plane {
    pub(crate) async fn own(&self, account: OwnAccount) -> Credential {
        let token = self.administrator.first_token(account, 600).await.unwrap();
        let shared = SharedToken::default();
        shared.replace(&token.token);
        Credential::Shared(shared)
    }

    pub(crate) async fn wait_for_guards(&self) {
        self.guards().await.prove_soon().await.unwrap();
    }

    pub(crate) async fn guards(&self) -> Guards {
        let provisioner = self.own(OwnAccount::Provisioner).await;
        let role_writer = self.own(OwnAccount::RoleWriter).await;
        Guards::new(&self.api, provisioner, role_writer).unwrap()
    }

    pub(crate) async fn sessions(&self) -> Sessions {
        let provisioner = self.own(OwnAccount::Provisioner).await;
        let role_writer = self.own(OwnAccount::RoleWriter).await;
        Sessions::new(&self.api, provisioner, role_writer).unwrap()
    }

    /// A session of which only the marker was made, as by an agent that was killed then.
    pub(crate) async fn half_made(&self) -> SessionId {
        let session = SessionId::from_bits(random_bits());
        let name = nullius_kube::account_name(&session);
        let marker = format!(
            "apiVersion: v1\nkind: Secret\nimmutable: true\ntype: nullius.dev/session-marker\nmetadata:\n  name: {name}\n  \
             namespace: nullius-sessions\n  labels: {{app.kubernetes.io/managed-by: nullius, nullius.dev/session: \"{session}\"}}\n"
        );
        let made =
            self.as_own(OwnAccount::Provisioner).run_with_input(&["create", "-f", "-"], &marker);
        assert_eq!(made.as_ref().unwrap().code, 0, "{made:?}");
        session
    }

    pub(crate) fn namespace(&self) -> TestNamespace {
        self.cluster.namespace("agent").unwrap()
    }

    /// kubectl with a bearer token and nothing else.
    pub(crate) fn with_token(&self, token: &str) -> Kubectl {
        let view = self.admin.ok(&["config", "view", "--raw", "--minify", "-o", "json"]).unwrap();
        let mut config: Value = serde_json::from_str(&view).unwrap();
        config["users"][0]["user"] = serde_json::json!({ "token": token.trim() });
        let path = self.files.path().join(format!("{:032x}", random_bits()));
        std::fs::write(&path, config.to_string()).unwrap();
        kubectl(&path).unwrap()
    }

    /// kubectl of one of the agent's own accounts.
    pub(crate) fn as_own(&self, account: OwnAccount) -> Kubectl {
        let token = ["-n", "nullius-system", "create", "token", account.name()];
        self.with_token(&self.admin.ok(&token).unwrap())
    }

    /// kubectl of somebody who holds a built-in ClusterRole in the whole cluster.
    pub(crate) fn somebody(&self, namespace: &TestNamespace, role: &str) -> Somebody {
        let name = format!("somebody-{role}-{:x}", random_bits());
        let account = format!("{}:{name}", namespace.name());
        let binding = format!("test-{name}");
        self.admin.ok(&["-n", namespace.name(), "create", "serviceaccount", &name]).unwrap();
        self.admin
            .ok(&[
                "create",
                "clusterrolebinding",
                &binding,
                "--clusterrole",
                role,
                "--serviceaccount",
                &account,
            ])
            .unwrap();
        let token = self.admin.ok(&["-n", namespace.name(), "create", "token", &name]).unwrap();
        Somebody { kubectl: self.with_token(&token), admin: self.admin.clone(), binding }
    }
}

/// A person with rights in the whole cluster; the rights go with the value.
pub(crate) struct Somebody {
    pub(crate) kubectl: Kubectl,
    admin: Kubectl,
    binding: String,
}

impl Drop for Somebody {
    fn drop(&mut self) {
        let _ = self.admin.run(&["delete", "clusterrolebinding", &self.binding]);
    }
}

pub(crate) fn rule(verbs: &[&str], group: &str, resources: &[&str]) -> PolicyRule {
    let text = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
    PolicyRule {
        verbs: text(verbs),
        api_groups: vec![group.to_owned()],
        resources: text(resources),
        ..PolicyRule::default()
    }
}

pub(crate) fn pods_reader(namespace: Option<&str>) -> Binding {
    binding(namespace, "reader", vec![rule(&["get", "list", "watch"], "", &["pods"])])
}

pub(crate) fn binding(namespace: Option<&str>, role: &str, rules: Vec<PolicyRule>) -> Binding {
    Binding {
        namespace: namespace.map(|name| name.parse().unwrap()),
        role: role.parse().unwrap(),
        rules,
    }
}

pub(crate) fn plan(bindings: impl IntoIterator<Item = Binding>) -> SessionPlan {
    SessionPlan {
        session: SessionId::from_bits(random_bits()),
        user: "ada".parse().unwrap(),
        generation: 1,
        expires_at: Ttl::from_secs(3_600).after(Timestamp::now()),
        bindings: bindings.into_iter().collect(),
    }
}

/// A refusal that says so, of whatever refused.
pub(crate) fn refused(output: &Output, by: &str) {
    assert_ne!(output.code, 0, "not refused: {}", output.stdout);
    assert!(output.stderr.contains(by), "refused by something else than `{by}`: {}", output.stderr);
}

/// Names of everything that carries a session's label.
pub(crate) fn left_of(plane: &Plane, session: &SessionId) -> String {
    let label = format!("nullius.dev/session={session}");
    let kinds = "serviceaccounts,secrets,rolebindings,clusterrolebindings";
    plane.admin.ok(&["get", kinds, "-A", "-l", &label, "-o", "name"]).unwrap()
}
