//! Refusals say what is missing and whom to ask; what does not exist is not told from what one may not see.

use std::{fs, time::Duration};

use nullius_testkit::{Kubectl, Output, wait_until};
use serde_json::Value;

use crate::{
    faults::{pods_of, processes_in},
    trail::{text, wait_event},
    world::{World, ended_with},
};

/// The refusal of a request: the `Status` as the client gets it.
fn status(kubectl: &Kubectl, args: &[&str]) -> Value {
    // At this verbosity kubectl prints the answer's body.
    let output = kubectl.run(&[args, &["-v=8"]].concat()).unwrap();
    ended_with(&output, 1);
    let found = output.stderr.lines().find_map(|line| {
        let quoted = line.split_once("\"Response Body\" body=")?.1;
        let body: String = serde_json::from_str(quoted).ok()?;
        let value: Value = serde_json::from_str(&body).ok()?;
        (value["kind"] == "Status").then_some(value)
    });
    found.unwrap_or_else(|| panic!("no Status in: {}", output.stderr))
}

#[test]
fn a_denial_names_the_grant_that_is_missing_and_whom_to_ask() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("denied");
    let name = &worker.name;
    let cluster = world.cluster_name();
    for kubectl in worker.kubectls() {
        let refused = kubectl.run(&["get", "secrets", "-n", "ops"]).unwrap();
        ended_with(&refused, 1);
        let wanted = [
            "Error from server (Forbidden)".to_owned(),
            format!("`{name}` may not list `secrets`"),
            format!("in namespace `ops` of cluster `{cluster}`"),
            "ask an admin".to_owned(),
            "for a grant of role `developer`".to_owned(),
        ];
        for part in &wanted {
            assert!(refused.stderr.contains(part), "`{part}` is not in: {}", refused.stderr);
        }
        for (args, part) in [
            (&["get", "nodes"][..], "may not list `nodes`"),
            (&["get", "pods", "-A"], "for a grant of role"),
            (&["exec", "-n", "ops", "some", "--", "true"], "may not"),
            (&["get", "pods", "-n", "nullius-sessions"], "nullius-sessions"),
            (&["create", "token", "default"], "serviceaccounts/token"),
            (&["get", "pods", "--as=system:admin"], "mpersonat"),
        ] {
            let refused = kubectl.run(args).unwrap();
            ended_with(&refused, 1);
            assert!(refused.stderr.contains(part), "{args:?}: {}", refused.stderr);
        }
    }
    let refused = worker.kubectl().run(&["get", "--raw", "/metrics"]).unwrap();
    assert!(refused.stderr.contains("may not get `/metrics`"), "{}", refused.stderr);
    let filter = ["--user", name.as_str(), "--outcome", "denied"];
    let event = wait_event(&world, "the denial", &filter, |event| {
        text(event, "/kube/resource") == "secrets"
    });
    assert!(text(&event, "/explanation/next").contains("role `developer`"), "{event:#}");
    wait_event(&world, "an alarm", &["--user", name, "--kind", "alarm"], |event| {
        text(event, "/explanation/reason") == "forged-identity"
    });
    // The grant that was named is what helps.
    let grant = format!(
        "apiVersion: nullius.dev/v1alpha1\nkind: Grant\nmetadata: {{name: {name}-ops}}\nspec:\n  \
         subjects: [{{kind: User, name: {name}}}]\n  role: developer\n  clusters: {{names: [{cluster}]}}\n  \
         namespaces: [ops]\n"
    );
    world.apply(&grant);
    worker.kubectl().ok(&["get", "secrets", "-n", "ops"]).unwrap();
    world.admin(&["delete", "grant", &format!("{name}-ops"), "--yes"]);
    let again = worker.kubectl().run(&["get", "secrets", "-n", "ops"]).unwrap();
    ended_with(&again, 1);
}

#[test]
fn the_explanation_is_the_same_on_the_command_line() {
    let Some(world) = World::together() else { return };
    let (namespace, worker) = world.worker("explained");
    let explain = |verb: &str, resource: &str, namespace: &str| {
        let args = [
            "access",
            "explain",
            &worker.name,
            verb,
            resource,
            "-c",
            world.cluster_name(),
            "-n",
            namespace,
        ];
        world.environment.nullius("admin", &args).unwrap()
    };
    let yes = explain("create", "pods/exec", namespace.name());
    ended_with(&yes, 0);
    assert!(yes.stdout.contains(&worker.grant_name()), "{}", yes.stdout);
    let no = explain("list", "secrets", "ops");
    ended_with(&no, 2);
    assert!(no.stdout.contains("ask an admin"), "{}", no.stdout);
    let told = worker.kubectl().run(&["get", "secrets", "-n", "ops"]).unwrap().stderr;
    let sentence = no.stdout.lines().next().unwrap().trim_start_matches("denied: ");
    assert!(told.contains(sentence), "`{sentence}` is not in: {told}");

    let mine: Value =
        serde_json::from_str(&worker.nullius_ok(&["access", "list", "-o", "json"])).unwrap();
    let rows = mine["items"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{mine:#}");
    assert_eq!(rows[0]["grant"], worker.grant_name());
    assert_eq!(rows[0]["reachable"], true);
}

#[test]
fn an_unknown_cluster_and_a_hidden_one_look_the_same() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("lost");
    let known = format!("/clusters/{}/", world.cluster_name());
    let text = fs::read_to_string(&worker.kubeconfig).unwrap();
    assert!(text.contains(&known), "{text}");
    let other = worker.kubeconfig.with_file_name("other-kubeconfig");
    fs::write(&other, text.replace(&known, "/clusters/nowhere/")).unwrap();
    let lost = nullius_testkit::kubectl(&other).unwrap();
    let unknown = lost.run(&["get", "--raw", "/api/v1/namespaces/shop/pods"]).unwrap();
    ended_with(&unknown, 1);
    assert!(
        unknown.stderr.contains("cluster `nowhere` does not exist, or no grant"),
        "{}",
        unknown.stderr
    );
    let answer = status(&lost, &["get", "--raw", "/api/v1/namespaces/shop/pods"]);
    assert_eq!((&answer["code"], &answer["reason"]), (&404.into(), &"NotFound".into()));

    // Without the grant, the cluster that exists is as unknown as the other.
    world.admin(&["delete", "grant", &worker.grant_name(), "--yes"]);
    let hidden = worker.kubectl().run(&["get", "--raw", "/api/v1/namespaces/shop/pods"]).unwrap();
    ended_with(&hidden, 1);
    let hidden = hidden.stderr.replace(world.cluster_name(), "nowhere");
    assert_eq!(hidden, unknown.stderr);
}

#[test]
fn a_cluster_without_agent_is_named_in_a_503() {
    let Some(world) = World::alone() else { return };
    let (_namespace, worker) = world.worker("away");
    let kubectl = worker.kubectl();
    kubectl.ok(&["get", "pods"]).unwrap();
    let _back = Scaled::down(&world, "nullius-agent-proxy");
    let refused = wait_until(Duration::from_secs(120), "the agent to be missed", || {
        kubectl.run(&["get", "pods"]).ok().filter(|output| output.code != 0)
    });
    let refused = refused.unwrap();
    assert!(refused.stderr.contains("(ServiceUnavailable)"), "{}", refused.stderr);
    assert!(refused.stderr.contains(&format!("`{}`", world.cluster_name())), "{}", refused.stderr);
    let answer = status(&kubectl, &["get", "--raw", "/version"]);
    assert_eq!(answer["code"], 503);
    let rows: Value =
        serde_json::from_str(&worker.nullius_ok(&["access", "list", "-o", "json"])).unwrap();
    assert_eq!(rows["items"][0]["reachable"], false);
}

#[track_caller]
fn says(output: &Output, code: i32, parts: &[&str]) {
    ended_with(output, code);
    for part in parts {
        assert!(output.stderr.contains(part), "`{part}` is not in: {}", output.stderr);
    }
}

#[test]
fn nobody_gives_what_is_not_theirs_to_give() {
    let Some(world) = World::together() else { return };
    let (_namespace, worker) = world.worker("greedy");
    let grant = |name: &str, user: &str| {
        format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: Grant\nmetadata: {{name: {name}}}\nspec:\n  \
             subjects: [{{kind: User, name: {user}}}]\n  role: operator\n  clusters: {{names: [{}]}}\n",
            world.cluster_name()
        )
    };
    let apply = |who: &str, objects: &str| {
        world.environment.nullius_with_input(who, &["apply", "-f", "-"], objects).unwrap()
    };
    let name = worker.name.as_str();
    let taken = format!("{name}-takes");
    says(&apply(name, &grant(&taken, name)), 2, &["may not", "ask an admin"]);
    says(&apply("admin", &grant(&taken, "admin")), 2, &["nobody grants to themselves"]);
    says(&worker.nullius(&["lock", "add", "--user", "vic"]), 2, &["may not", "hub role"]);
    says(&worker.nullius(&["session", "end", &"0".repeat(32)]), 2, &["may not"]);
    says(&worker.nullius(&["cluster", "remove", world.cluster_name(), "--yes"]), 2, &["may not"]);
    says(&worker.nullius(&["user", "reset", "admin", "--yes"]), 2, &["may not"]);
    let last = world.environment.nullius("admin", &["delete", "user", "admin", "--yes"]).unwrap();
    says(&last, 1, &["nobody would be admin"]);
    let filter = ["--user", name, "--kind", "object-change", "--outcome", "denied"];
    wait_event(&world, "what was tried", &filter, |event| {
        text(event, "/target") == "Lock/user-vic"
    });
}

/// A Deployment of the agent without pods; brought back when dropped, and waited for.
pub(crate) struct Scaled<'w> {
    world: &'w World,
    deployment: &'static str,
}

impl<'w> Scaled<'w> {
    /// No replicas, at once.
    pub(crate) fn down(world: &'w World, deployment: &'static str) -> Self {
        let this = Self { world, deployment };
        let mut pods = pods_of(world, deployment);
        this.scale("0");
        let label = format!("app.kubernetes.io/component={deployment}");
        let force =
            ["-n", "nullius-system", "delete", "pods", "-l", &label, "--force", "--grace-period=0"];
        world.direct().ok(&force).unwrap();
        // Who was quick made another pod, and what runs in pods outlives them for a moment.
        let replicas = ["-n", "nullius-system", "get", "deployment", deployment];
        let replicas = [&replicas[..], &["-o", "jsonpath={.status.replicas}"]].concat();
        wait_until(Duration::from_secs(180), "no process of it", || {
            let there = pods_of(world, deployment);
            let left = world.direct().ok(&replicas).ok()?;
            let none = there.is_empty() && matches!(left.trim(), "" | "0");
            pods.extend(there);
            (none && processes_in(&pods).is_empty()).then_some(())
        })
        .unwrap();
        this
    }

    /// More replicas than usual, all of them ready.
    pub(crate) fn up(world: &'w World, deployment: &'static str, replicas: &str) -> Self {
        let this = Self { world, deployment };
        this.scale(replicas);
        ended_with(&this.rolled_out(), 0);
        this
    }

    fn rolled_out(&self) -> Output {
        let deployment = format!("deployment/{}", self.deployment);
        let status = ["-n", "nullius-system", "rollout", "status", &deployment, "--timeout=180s"];
        self.world.direct().run(&status).unwrap()
    }

    fn scale(&self, replicas: &str) {
        let replicas = format!("--replicas={replicas}");
        let args = ["-n", "nullius-system", "scale", "deployment", self.deployment, &replicas];
        self.world.direct().ok(&args).unwrap();
    }
}

impl Drop for Scaled<'_> {
    fn drop(&mut self) {
        self.scale("1");
        if !std::thread::panicking() {
            ended_with(&self.rolled_out(), 0);
            // A pod that is to go still runs for a while.
            let label = format!("app.kubernetes.io/component={}", self.deployment);
            let pods = ["-n", "nullius-system", "get", "pods", "-l", &label, "-o", "name"];
            wait_until(Duration::from_secs(180), "one pod alone", || {
                (self.world.direct().ok(&pods).ok()?.lines().count() == 1).then_some(())
            })
            .unwrap();
        }
    }
}
