//! Every way in which a right ends: new requests are refused at once, live streams are cut, nothing stays behind.

use std::{
    fmt,
    time::{Duration, Instant},
};

use nullius_testkit::{Output, TestNamespace, wait_until};

use crate::{
    faults_lab::PATIENCE,
    people::{Worker, team_of},
    running::{Running, get_page, port_of},
    trail::{text, wait_event},
    world::{World, ended_with},
};

/// The longest that a live stream may outlive the command that ends the right to it.
const CUT_WITHIN: Duration = Duration::from_secs(2);

/// One live stream of each kind, each shown to be live.
struct Streams {
    running: Vec<Running>,
}

impl Streams {
    fn open(worker: &Worker<'_>) -> Self {
        let kubectl = worker.kubectl();
        let start = |what: &str, args: &[&str]| {
            Running::start(&format!("{what} of {}", worker.name), kubectl.command(args))
        };
        let mut watch = start("watch", &["get", "pods", "--watch"]);
        let mut logs = start("logs -f", &["logs", "-f", "page"]);
        let mut shell = start("exec", &["exec", "-i", "page", "--", "sh"]);
        let mut forward = start("port-forward", &["port-forward", "pod/page", ":8080"]);
        watch.wait_line("page");
        logs.wait_line("tick");
        shell.say("echo $((40 + 2))");
        shell.wait_line("42");
        let port = port_of(&forward.wait_line("Forwarding from"));
        assert!(get_page(port, "/").unwrap().ends_with("the page\n"));
        Self { running: vec![watch, logs, shell, forward] }
    }

    fn are_live(&mut self) {
        for stream in &mut self.running {
            assert!(stream.is_running(), "{} has ended", stream.what());
        }
    }

    /// All have ended when the limit from `since` is over; gives what the shell was told.
    fn are_cut(&mut self, since: Instant) -> String {
        let mut told = String::new();
        for stream in &mut self.running {
            let left = (since + CUT_WITHIN).saturating_duration_since(Instant::now());
            let (code, said) = stream.wait_end(left);
            assert_ne!(code, -1, "{}: {said}", stream.what());
            if stream.what().starts_with("exec") {
                told = said;
            }
        }
        told
    }
}

/// A way in which a right ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Logout,
    SessionEnded,
    GrantDeleted,
    UserDeleted,
    UserDisabled,
    UserLocked,
    GroupLocked,
    SessionLocked,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Logout => "logout",
            Self::SessionEnded => "ended",
            Self::GrantDeleted => "ungranted",
            Self::UserDeleted => "deleted",
            Self::UserDisabled => "disabled",
            Self::UserLocked => "user-locked",
            Self::GroupLocked => "group-locked",
            Self::SessionLocked => "session-locked",
        })
    }
}

const ENDS: [End; 8] = [
    End::Logout,
    End::SessionEnded,
    End::GrantDeleted,
    End::UserDeleted,
    End::UserDisabled,
    End::UserLocked,
    End::GroupLocked,
    End::SessionLocked,
];

impl End {
    /// Brings it about, and gives when the command had ended: what a process takes to start is not the hub's time.
    fn bring_about(self, world: &World, worker: &Worker<'_>) -> Instant {
        let name = worker.name.as_str();
        let lock = |flag: &str, what: &str| {
            let named = ["--name", name, "--message", "call security"];
            world.admin(&[&["lock", "add", flag, what], &named[..]].concat());
        };
        match self {
            Self::Logout => drop(worker.nullius_ok(&["logout"])),
            Self::SessionEnded => drop(world.admin(&["session", "end", &worker.session])),
            Self::GrantDeleted => {
                drop(world.admin(&["delete", "grant", &worker.grant_name(), "--yes"]));
            }
            Self::UserDeleted => drop(world.admin(&["delete", "user", name, "--yes"])),
            Self::UserDisabled => world.apply(&format!(
                "apiVersion: nullius.dev/v1alpha1\nkind: User\nmetadata: {{name: {name}}}\nspec: {{disabled: true}}\n"
            )),
            Self::UserLocked => lock("--user", name),
            Self::GroupLocked => lock("--group", &team_of(name)),
            Self::SessionLocked => lock("--session", &worker.session),
        }
        Instant::now()
    }

    fn is_lock(self) -> bool {
        matches!(self, Self::UserLocked | Self::GroupLocked | Self::SessionLocked)
    }

    /// What kubectl prints of an exec that is cut by it.
    fn says_to_a_shell(self) -> &'static str {
        match self {
            Self::Logout | Self::SessionEnded | Self::UserDeleted | Self::UserDisabled => {
                "error: your session has ended"
            }
            Self::GrantDeleted => "no grant of yours names it",
            Self::UserLocked | Self::GroupLocked | Self::SessionLocked => "call security",
        }
    }

    /// The next request is refused, and it says why.
    fn is_told(self, refused: &Output) {
        ended_with(refused, 1);
        let wanted: &[&str] = match self {
            Self::Logout | Self::SessionEnded | Self::UserDeleted | Self::UserDisabled => {
                &["nullius login"]
            }
            Self::GrantDeleted => &["no grant of yours names it"],
            Self::UserLocked | Self::GroupLocked | Self::SessionLocked => &["call security"],
        };
        let told = wanted.iter().any(|part| refused.stderr.contains(part));
        assert!(told, "{self}: none of {wanted:?} in: {}", refused.stderr);
    }
}

#[test]
fn every_end_of_a_right_cuts_its_streams_and_leaves_nothing() {
    let Some(world) = World::alone() else { return };
    let namespace = world.namespace_with_pod("flush");
    let witness = Worker::hire(&world, "witness", namespace.name());
    let mut witnessed = Streams::open(&witness);
    let theirs = world.session_objects(&witness.session);
    assert!(!theirs.is_empty());

    for end in ENDS {
        let worker = Worker::hire_into_team(&world, &end.to_string(), namespace.name());
        let mut streams = Streams::open(&worker);
        let objects = world.session_objects(&worker.session);
        let of_kind = |kind: &str| objects.iter().any(|object| object.starts_with(kind));
        assert!(
            of_kind("ServiceAccount") && of_kind("Secret") && of_kind("RoleBinding"),
            "{objects:?}"
        );
        let decoy = Decoy::new(&namespace, &worker.session);

        let ended = end.bring_about(&world, &worker);
        let refused =
            worker.kubectl().run(&["get", "--raw", "/api/v1/namespaces/shop/pods"]).unwrap();
        let told = streams.are_cut(ended);
        eprintln!("{end}: refused and cut after {:?}", ended.elapsed());
        assert!(told.contains(end.says_to_a_shell()), "{end}: {told}");
        end.is_told(&refused);
        match end {
            // Locks are lifted again: what the session has stays, but for its rights.
            End::UserLocked | End::GroupLocked | End::SessionLocked => {}
            End::GrantDeleted => no_bindings_stay(&world, &worker, &decoy),
            End::Logout | End::SessionEnded | End::UserDeleted | End::UserDisabled => {
                nothing_stays(&world, &worker, &decoy);
            }
        }
        decoy.stands(&namespace);
        if end.is_lock() {
            world.admin(&["lock", "remove", &worker.name]);
            let again = worker.kubectl().run(&["get", "pods"]).unwrap();
            ended_with(&again, 0);
        }
        witnessed.are_live();
        assert_eq!(world.session_objects(&witness.session), theirs, "after {end}");
    }
    let cut = ["--user", &witness.name, "--kind", "flush"];
    assert!(crate::trail::events(&world, &cut).is_empty());
}

/// Everything of the session is gone but what only looks like it.
fn nothing_stays(world: &World, worker: &Worker<'_>, decoy: &Decoy) {
    wait_until(PATIENCE, "the session's objects to go", || {
        let left = world.session_objects(&worker.session);
        (left.len() == 1 && decoy.is(&left[0])).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", world.session_objects(&worker.session)));
    let filter = ["--session", worker.session.as_str(), "--kind", "flush"];
    let event = wait_event(world, "the flush in the audit", &filter, |e| e["outcome"] == "done");
    assert_eq!(text(&event, "/cluster"), world.cluster_name());
    for (verb, resource) in
        [("watch", "pods"), ("create", "pods/exec"), ("create", "pods/portforward")]
    {
        let filter = ["--session", worker.session.as_str(), "--resource", resource, "--verb", verb];
        wait_event(world, resource, &filter, |e| text(e, "/facts/ended") == "cut");
    }
}

fn no_bindings_stay(world: &World, worker: &Worker<'_>, decoy: &Decoy) {
    wait_until(PATIENCE, "the session's bindings to go", || {
        let left = world.session_objects(&worker.session);
        let bound = |object: &&String| object.contains("RoleBinding") && !decoy.is(object);
        left.iter().find(bound).is_none().then_some(())
    })
    .unwrap();
}

/// An object of somebody else that carries a session's label.
pub(crate) struct Decoy(String);

impl Decoy {
    pub(crate) fn new(namespace: &TestNamespace, session: &str) -> Self {
        let name = format!("decoy-{session}");
        let manifest = format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
             metadata: {{name: {name}, labels: {{nullius.dev/session: \"{session}\", app.kubernetes.io/managed-by: nullius}}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}\n\
             subjects: [{{kind: ServiceAccount, name: default}}]\n"
        );
        namespace.apply(&manifest).unwrap();
        Self(name)
    }

    pub(crate) fn is(&self, object: &str) -> bool {
        object.contains(&self.0)
    }

    pub(crate) fn stands(&self, namespace: &TestNamespace) {
        namespace.kubectl(&["get", "rolebinding", &self.0]).unwrap();
    }
}

#[test]
fn a_locked_cluster_is_closed_to_everybody_until_it_is_opened() {
    let Some(world) = World::alone() else { return };
    let (_namespace, worker) = world.worker_with_pod("locked");
    let mut streams = Streams::open(&worker);
    let name = format!("{}-cluster", worker.name);
    let lock = [
        "lock",
        "add",
        "--cluster",
        world.cluster_name(),
        "--name",
        &name,
        "--message",
        "under repair",
    ];
    world.admin(&lock);
    let locked = Instant::now();
    let refused = worker.kubectl().run(&["get", "pods"]).unwrap();
    let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| streams.are_cut(locked)));
    world.admin(&["lock", "remove", &name]);
    cut.unwrap();
    ended_with(&refused, 1);
    assert!(refused.stderr.contains("under repair"), "{}", refused.stderr);
    worker.kubectl().ok(&["get", "pods"]).unwrap();
}

#[test]
fn a_changed_role_counts_at_once_in_sessions_that_live() {
    let Some(world) = World::alone() else { return };
    let (namespace, worker) = world.worker_with_pod("narrowed");
    let mut streams = Streams::open(&worker);
    let role = format!("{}-role", worker.name);
    let write = |rules: &str| {
        world.apply(&format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: Role\nmetadata: {{name: {role}}}\nspec:\n  rules:\n  - {rules}\n"
        ));
    };
    write(r#"{apiGroups: [""], resources: [pods], verbs: [get, list, watch]}"#);
    world.apply(&format!(
        "apiVersion: nullius.dev/v1alpha1\nkind: Grant\nmetadata: {{name: {}}}\nspec:\n  \
         subjects: [{{kind: User, name: {}}}]\n  role: {role}\n  clusters: {{names: [{}]}}\n  namespaces: [{}]\n",
        worker.grant_name(),
        worker.name,
        world.cluster_name(),
        namespace.name(),
    ));
    let changed = Instant::now();
    // The watch is still allowed, the rest is not.
    let mut watch = streams.running.remove(0);
    streams.are_cut(changed);
    worker.kubectl().ok(&["get", "pods"]).unwrap();
    ended_with(&worker.kubectl().run(&["exec", "page", "--", "true"]).unwrap(), 1);
    write(r#"{apiGroups: [""], resources: [configmaps], verbs: [get, list, watch]}"#);
    watch.wait_end(CUT_WITHIN);
    ended_with(&worker.kubectl().run(&["get", "pods"]).unwrap(), 1);
    worker.kubectl().ok(&["get", "configmaps"]).unwrap();
    world.admin(&["delete", "grant", &worker.grant_name(), "--yes"]);
    world.admin(&["delete", "role", &role, "--yes"]);
}

#[test]
fn a_grant_that_ends_by_itself_and_a_group_that_is_left_cut_streams_too() {
    let Some(world) = World::alone() else { return };
    let (namespace, worker) = world.worker_with_pod("timed");
    let name = worker.name.as_str();
    let grant = |subject: &str, more: &str| {
        world.apply(&format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: Grant\nmetadata: {{name: {}}}\nspec:\n  \
             subjects: [{subject}]\n  role: developer\n  clusters: {{names: [{}]}}\n  namespaces: [{}]\n{more}",
            worker.grant_name(),
            world.cluster_name(),
            namespace.name(),
        ));
    };
    let mut streams = Streams::open(&worker);
    // Long enough for the commands that show that it counts until then.
    let life = Duration::from_secs(15);
    let end = jiff::Timestamp::now() + life;
    let began = Instant::now();
    grant(&format!("{{kind: User, name: {name}}}"), &format!("  expires: {end}\n"));
    worker.kubectl().ok(&["get", "pods"]).unwrap();
    streams.are_live();
    streams.are_cut(began + life);
    assert!(began.elapsed() >= life);
    let refused = worker.kubectl().run(&["get", "pods"]).unwrap();
    ended_with(&refused, 1);
    assert!(refused.stderr.contains("ended at"), "{}", refused.stderr);

    let group = format!("{name}-group");
    world.apply(&format!(
        "apiVersion: nullius.dev/v1alpha1\nkind: Group\nmetadata: {{name: {group}}}\nspec: {{}}\n"
    ));
    let join = |groups: &str| {
        world.apply(&format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: User\nmetadata: {{name: {name}}}\nspec: {{groups: [{groups}]}}\n"
        ));
    };
    grant(&format!("{{kind: Group, name: {group}}}"), "");
    ended_with(&worker.kubectl().run(&["get", "pods"]).unwrap(), 1);
    join(&group);
    let mut streams = Streams::open(&worker);
    join("");
    streams.are_cut(Instant::now());
    ended_with(&worker.kubectl().run(&["get", "pods"]).unwrap(), 1);
    world.admin(&["delete", "grant", &worker.grant_name(), "--yes"]);
    world.admin(&["delete", "group", &group, "--yes"]);
}

#[test]
fn one_session_of_a_person_ends_and_the_other_goes_on() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker_with_pod("twice");
    let kubectl = worker.kubectl();
    kubectl.ok(&["get", "pods"]).unwrap();
    let other = format!("{}-elsewhere", worker.name);
    let code = worker.person.next_code().unwrap();
    let input = format!("{}\n{}\n{code}\n", worker.name, worker.person.password);
    let ca = world.environment.hub_ca.display().to_string();
    let login = ["login", "--hub", &world.environment.hub_url, "--ca", &ca, "--password-stdin"];
    world.environment.nullius_ok_with_input(&other, &login, &input).unwrap();
    let again = world.environment.nullius_with_input(&other, &login, &input).unwrap();
    ended_with(&again, 1);
    let listed = worker.nullius_ok(&["session", "list", "-o", "name"]);
    assert_eq!(listed.lines().count(), 2, "{listed}");
    world.environment.nullius_ok(&other, &["logout"]).unwrap();
    kubectl.ok(&["get", "pods"]).unwrap();
    let listed = worker.nullius_ok(&["session", "list", "-o", "name"]);
    assert_eq!(listed.trim(), worker.session);
    worker.nullius_ok(&["logout", "--all"]);
    ended_with(&kubectl.run(&["get", "pods"]).unwrap(), 1);
}
