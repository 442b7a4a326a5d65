//! The hub and cluster of the test run: shared with other tests, or for a while a test's own.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use nullius_testkit::{
    Cluster, Company, Environment, Kubectl, Output, Profile, TestNamespace, Turn, environment,
    shared, wait_until,
};
use serde_json::Value;

use crate::{faults_lab::PATIENCE, people::Worker};

/// Tests that stop or restart what others use hold it alone.
static TURNS: RwLock<()> = RwLock::new(());
/// When the admin's factor was last known to be fresh.
static FRESH: Mutex<Option<Instant>> = Mutex::new(None);
/// A change asks for a factor younger than 15 minutes; a test run is shorter than the rest.
const FRESH_FOR: Duration = Duration::from_secs(5 * 60);

/// Everything that runs.
pub(crate) struct World {
    pub(crate) environment: Environment,
    pub(crate) cluster: Cluster,
    pub(crate) state: PathBuf,
    // Given back in this order: other programs first.
    _turn: Turn,
    _here: Here,
}

/// The turn among the tests of this program.
#[expect(dead_code, reason = "held for their end")]
enum Here {
    Together(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

impl World {
    /// Beside other tests; `None` where there is nothing to run on.
    pub(crate) fn together() -> Option<Self> {
        Self::open(Here::Together(TURNS.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// While no other test uses hub and cluster: for what stops hub or agents, and for what is timed.
    pub(crate) fn alone() -> Option<Self> {
        Self::open(Here::Alone(TURNS.write().unwrap_or_else(PoisonError::into_inner)))
    }

    fn open(here: Here) -> Option<Self> {
        let cluster = shared(Profile::Standard)?;
        let company = match here {
            Here::Together(_) => Company::Together,
            Here::Alone(_) => Company::Alone,
        };
        let turn = cluster.turn(company).unwrap();
        let (environment, state) = environment()?;
        let world = Self { environment, cluster, state, _turn: turn, _here: here };
        world.freshen_admin();
        Some(world)
    }

    /// The admin may change things.
    fn freshen_admin(&self) {
        let mut fresh = FRESH.lock().unwrap_or_else(PoisonError::into_inner);
        if fresh.is_some_and(|at| at.elapsed() < FRESH_FOR) {
            return;
        }
        let whoami = self.environment.nullius("admin", &["whoami", "-o", "json"]).unwrap();
        let young = |answer: &Value| {
            let at: jiff::Timestamp = answer["factorAt"].as_str()?.parse().ok()?;
            Some(jiff::Timestamp::now().duration_since(at).as_secs() < 5 * 60)
        };
        let answer: Option<Value> = serde_json::from_str(&whoami.stdout).ok();
        if answer.as_ref().and_then(young) != Some(true) {
            let admin = self.environment.person("admin").unwrap();
            // A code counts once, and somebody may have used the present one.
            wait_until(PATIENCE, "a code of the admin that counts", || {
                [admin.code(), admin.next_code()].into_iter().find_map(|code| {
                    let code = code.ok()?;
                    let step_up = ["login", "--step-up", "--password-stdin"];
                    match &answer {
                        Some(_) => self
                            .environment
                            .nullius_ok_with_input("admin", &step_up, &format!("{code}\n"))
                            .map(drop)
                            .ok(),
                        None => admin.sign_in_with(&self.environment, &code).ok(),
                    }
                })
            })
            .unwrap();
        }
        *fresh = Some(Instant::now());
    }

    /// The cluster's name at the hub.
    pub(crate) fn cluster_name(&self) -> &str {
        &self.environment.clusters[0].name
    }

    /// Runs the command line as the hub's admin.
    pub(crate) fn admin(&self, args: &[&str]) -> String {
        self.environment.nullius_ok("admin", args).unwrap()
    }

    /// As [`Self::admin`], with the answer read as JSON.
    pub(crate) fn admin_json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.admin(&[args, &["-o", "json"]].concat())).unwrap()
    }

    /// Applies objects at the hub as its admin.
    pub(crate) fn apply(&self, objects: &str) {
        self.environment.nullius_ok_with_input("admin", &["apply", "-f", "-"], objects).unwrap();
    }

    /// kubectl past Nullius, as an administrator of the cluster.
    pub(crate) fn direct(&self) -> Kubectl {
        self.cluster.kubectl().unwrap()
    }

    /// A namespace with a pod that serves a page, ticks, and answers what it hears.
    pub(crate) fn namespace_with_pod(&self, purpose: &str) -> TestNamespace {
        let namespace = self.cluster.namespace(purpose).unwrap();
        namespace.apply(PAGE).unwrap();
        namespace
            .kubectl(&["wait", "pod/page", "--for=condition=Ready", "--timeout=180s"])
            .unwrap();
        namespace
    }

    /// A new person, signed in, who works as a developer in a new namespace.
    pub(crate) fn worker(&self, purpose: &str) -> (TestNamespace, Worker<'_>) {
        let namespace = self.cluster.namespace(purpose).unwrap();
        let worker = Worker::hire(self, purpose, namespace.name());
        (namespace, worker)
    }

    /// As [`Self::worker`], where a pod runs.
    pub(crate) fn worker_with_pod(&self, purpose: &str) -> (TestNamespace, Worker<'_>) {
        let namespace = self.namespace_with_pod(purpose);
        let worker = Worker::hire(self, purpose, namespace.name());
        (namespace, worker)
    }

    /// What stands in the cluster for a session.
    pub(crate) fn session_objects(&self, session: &str) -> Vec<String> {
        session_objects(&self.direct(), session)
    }
}

/// What stands in a cluster for a session: `Kind/namespace/name=UID`, sorted; read by an administrator.
pub(crate) fn session_objects(direct: &Kubectl, session: &str) -> Vec<String> {
    let label = format!("nullius.dev/session={session}");
    let form = r#"jsonpath={range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name}={.metadata.uid}{"\n"}{end}"#;
    let kinds = "serviceaccounts,secrets,rolebindings,clusterrolebindings";
    let text = direct.ok(&["get", kinds, "-A", "-l", &label, "-o", form]).unwrap();
    let mut objects: Vec<String> = text.lines().map(str::to_owned).collect();
    objects.sort();
    objects
}

/// The pod that tests work with.
const PAGE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: page, labels: {app: page}}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  containers:
  - name: page
    image: localhost/nullius-busybox:1
    imagePullPolicy: Never
    stdin: true
    command: [sh, -c]
    args:
    - |
      mkdir -p /www /tmp
      echo "the page" > /www/index.html
      httpd -p 8080 -h /www
      ( i=0; while sleep 0.2; do i=$((i+1)); echo "tick $i"; done ) &
      while :; do if read -r line; then echo "heard $line"; else sleep 1; fi; done
    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
"#;

/// Says what a program printed when its exit code is not the expected one.
#[track_caller]
pub(crate) fn ended_with(output: &Output, code: i32) {
    assert_eq!(output.code, code, "stdout: {}\nstderr: {}", output.stdout, output.stderr);
}
