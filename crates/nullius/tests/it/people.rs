//! People who work on the cluster: enrolled, signed in, with a grant and a kubeconfig of their own.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use nullius_skip::leave_out;
use nullius_testkit::{Kubectl, Output, Person, kubectl, kubectl_on_path, wait_until};
use serde_json::Value;

use crate::{faults_lab::PATIENCE, world::World};

/// A name that nobody else has in this test run.
pub(crate) fn name_for(purpose: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("{purpose}-{}-{number}", std::process::id())
}

/// A person at work. Their account and grants are taken away when dropped.
pub(crate) struct Worker<'w> {
    pub(crate) name: String,
    pub(crate) person: Person,
    /// The session's id.
    pub(crate) session: String,
    pub(crate) namespace: String,
    pub(crate) kubeconfig: PathBuf,
    world: &'w World,
}

/// The group that somebody is in, alone.
pub(crate) fn team_of(name: &str) -> String {
    format!("team-{name}")
}

impl<'w> Worker<'w> {
    /// Enrols somebody, lets them work as a developer in a namespace, and signs them in.
    pub(crate) fn hire(world: &'w World, purpose: &str, namespace: &str) -> Self {
        Self::welcome(world, &name_for(purpose), &[], namespace)
    }

    /// The same, in a group of their own.
    pub(crate) fn hire_into_team(world: &'w World, purpose: &str, namespace: &str) -> Self {
        let name = name_for(purpose);
        let team = team_of(&name);
        world.apply(&format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: Group\nmetadata: {{name: {team}}}\nspec: {{}}\n"
        ));
        Self::welcome(world, &name, &[&team], namespace)
    }

    fn welcome(world: &'w World, name: &str, groups: &[&str], namespace: &str) -> Self {
        let person = world.environment.new_person(name, groups).unwrap();
        let mut worker = Self::appoint(world, person, namespace);
        worker.person.sign_in(&world.environment).unwrap();
        worker.arrive();
        worker
    }

    /// Lets somebody who has enrolled work as a developer in a namespace.
    pub(crate) fn appoint(world: &'w World, person: Person, namespace: &str) -> Self {
        let worker = Self {
            kubeconfig: world.environment.homes.join(&person.name).join("kubeconfig"),
            name: person.name.clone(),
            person,
            session: String::new(),
            namespace: namespace.to_owned(),
            world,
        };
        world.apply(&worker.grant("developer"));
        worker
    }

    /// Goes to work after a sign-in: with a kubeconfig.
    pub(crate) fn arrive(&mut self) {
        self.session = self.session_now();
        self.write_kubeconfig();
    }

    /// The session that the person's command line is in.
    pub(crate) fn session_now(&self) -> String {
        let text = self.nullius_ok(&["whoami", "-o", "json"]);
        let me: Value = serde_json::from_str(&text).unwrap();
        me["session"].as_str().unwrap().to_owned()
    }

    fn write_kubeconfig(&self) {
        let file = self.kubeconfig.display().to_string();
        self.nullius_ok(&["kubeconfig", "--file", &file]);
        let namespace = format!("--namespace={}", self.namespace);
        self.kubectl().ok(&["config", "set-context", "--current", &namespace]).unwrap();
    }

    /// Name of the grant by which they work here.
    pub(crate) fn grant_name(&self) -> String {
        format!("{}-works", self.name)
    }

    /// The grant of a role in the namespace.
    fn grant(&self, role: &str) -> String {
        format!(
            "apiVersion: nullius.dev/v1alpha1\nkind: Grant\nmetadata: {{name: {grant}}}\nspec:\n  \
             subjects: [{{kind: User, name: {name}}}]\n  role: {role}\n  clusters: {{names: [{cluster}]}}\n  \
             namespaces: [{namespace}]\n  reason: for a test\n",
            grant = self.grant_name(),
            name = self.name,
            cluster = self.world.cluster_name(),
            namespace = self.namespace,
        )
    }

    /// kubectl of the cluster's version.
    pub(crate) fn kubectl(&self) -> Kubectl {
        self.at_home(kubectl(&self.kubeconfig).unwrap())
    }

    /// kubectl of the cluster's version, and the one of this machine; where it has none that is told.
    pub(crate) fn kubectls(&self) -> Vec<Kubectl> {
        let found = kubectl_on_path(&self.kubeconfig).map(|kubectl| self.at_home(kubectl));
        if found.is_none() {
            leave_out("the same with the kubectl of this machine: it has none on PATH");
        }
        [self.kubectl()].into_iter().chain(found).collect()
    }

    fn at_home(&self, kubectl: Kubectl) -> Kubectl {
        let home = self.kubeconfig.parent().unwrap();
        kubectl.env("KUBECACHEDIR", &home.join("cache").display().to_string())
    }

    /// Waits until a call of kubectl works, after hub or agent were away.
    #[track_caller]
    pub(crate) fn works_again(&self, args: &[&str]) {
        let mut last = String::new();
        let worked = wait_until(PATIENCE, "kubectl to work again", || {
            let output = self.kubectl().run(args).unwrap();
            last.clone_from(&output.stderr);
            (output.code == 0).then_some(())
        });
        worked.unwrap_or_else(|error| panic!("{error}: {last}"));
    }

    /// Runs the command line as this person.
    pub(crate) fn nullius(&self, args: &[&str]) -> Output {
        self.world.environment.nullius(&self.name, args).unwrap()
    }

    /// As [`Self::nullius`]; an exit code other than 0 fails the test.
    pub(crate) fn nullius_ok(&self, args: &[&str]) -> String {
        self.world.environment.nullius_ok(&self.name, args).unwrap()
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        let environment = &self.world.environment;
        let _ = environment.nullius("admin", &["delete", "grant", &self.grant_name(), "--yes"]);
        let _ = environment.nullius("admin", &["delete", "user", &self.name, "--yes"]);
    }
}
