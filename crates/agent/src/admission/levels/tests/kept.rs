//! The policy of the join manifest about levels, asked as an API server asks it.

use std::sync::Arc;

use nullius_admission::webhook::{Engine, Entry, Fact, InForce, PolicyFile, Review, Step};
use nullius_kube::{Deployments, HubPins, JoinManifest, Shape};
use nullius_model::{Ceiling, KEPT_LEVEL_LABEL, Timestamp};
use nullius_policy::{
    admission_policy::{Need, Version, authz::Verdict},
    pod_security::ENFORCE_LABEL,
};
use secrecy::SecretString;
use serde_json::{Value, json};

const AGENT: &str = "system:serviceaccount:nullius-system:nullius-admission";
const SOMEBODY: &str = "ada";
const ADMINISTRATOR: &str = "administrator";
const GENUINE: &str = "authentication.kubernetes.io/credential-id";

/// Policies with their bindings, in force.
pub(super) fn in_force(objects: &[Value]) -> Engine {
    let text: Vec<String> = objects.iter().map(ToString::to_string).collect();
    let file = PolicyFile { name: "a/b.yaml".to_owned(), text: text.join("\n---\n") };
    let in_force = InForce::compile(&[file], Version::LATEST).unwrap();
    assert_eq!(in_force.counts().1, 0, "{:?}", in_force.troubles());
    Engine::new(Arc::new(in_force), []).0
}

/// The refusal of a request; `None` where it passes. Only an administrator may delete bindings.
pub(super) fn refusal(engine: &Engine, request: &Value) -> Option<String> {
    let body = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
    let mut review = Review::read(Entry::ValidateFail, body.to_string().as_bytes()).unwrap();
    let is_guardian = request["userInfo"]["username"] == ADMINISTRATOR;
    loop {
        let needs = match review.step(engine, Timestamp::now(), &|| false) {
            Step::Decided(judged) => return judged.outcome.refusal.map(|refusal| refusal.message),
            Step::Fetch(needs) => needs,
        };
        for need in needs {
            let reason = String::new();
            let fact = match &need {
                Need::Access(_) if is_guardian => Fact::Access(Verdict::Allow { reason }),
                Need::Access(_) => Fact::Access(Verdict::Deny { reason }),
                _ => Fact::Namespace(Some(Arc::new(
                    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }),
                ))),
            };
            review.learn(need, Ok(fact));
        }
    }
}

fn of_the_manifest() -> Engine {
    let manifest = JoinManifest {
        cluster: "plane".parse().unwrap(),
        ceiling: Ceiling::try_from("edit".to_owned()).unwrap(),
        shape: Shape::InCluster {
            deployments: Deployments::of_image("localhost/nullius:dev"),
            hub: HubPins {
                address: "10.99.1.1:8443".to_owned(),
                infra_ca_pem: String::new(),
                offline_key: String::new(),
                hub_id: "hub-1".to_owned(),
            },
            join_token: SecretString::from("token"),
        },
    };
    let mut objects = manifest.objects();
    objects.retain(|object| object["metadata"]["name"] == "nullius-pod-security");
    in_force(&objects)
}

/// What becomes of a namespace whose level and mark were these and are to be those.
fn asked(
    engine: &Engine,
    user: &str,
    old: Option<(Option<&str>, Option<&str>)>,
    new: (Option<&str>, Option<&str>),
) -> Option<String> {
    let namespace = |(level, mark): (Option<&str>, Option<&str>)| {
        let mut labels = json!({ "a": "b" });
        let both = [(ENFORCE_LABEL, level), (KEPT_LEVEL_LABEL, mark)];
        for (key, value) in both {
            if let Some(value) = value {
                labels[key] = value.into();
            }
        }
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop", "labels": labels }, "spec": {} })
    };
    let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
    let mut request = json!({
        "uid": "u-1", "operation": operation, "namespace": "shop", "name": "shop",
        "kind": { "group": "", "version": "v1", "kind": "Namespace" },
        "resource": { "group": "", "version": "v1", "resource": "namespaces" },
        "userInfo": { "username": user, "groups": [], "extra": { GENUINE: ["JTI=1"] } },
        "object": namespace(new),
    });
    if let Some(old) = old {
        request["oldObject"] = namespace(old);
    }
    refusal(engine, &request)
}

#[test]
fn nobody_but_agent_and_administrators_writes_a_mark_and_nobody_another_value() {
    let engine = of_the_manifest();
    let restricted = Some("restricted");
    let kube_system = "system:serviceaccount:kube-system:some-operator";
    for user in [SOMEBODY, kube_system, "system:kube-controller-manager"] {
        for level in [None, Some("privileged"), Some("baseline"), restricted] {
            for mark in ["", "restricted", "baseline"] {
                let told = asked(&engine, user, None, (level, Some(mark)));
                assert!(told.is_some(), "{user} makes a namespace with {level:?} and `{mark}`");
                let told = asked(&engine, user, Some((level, None)), (level, Some(mark)));
                assert!(told.is_some(), "{user} writes `{mark}` beside {level:?}");
            }
            let told = asked(&engine, user, Some((level, restricted)), (level, None));
            assert!(told.is_some(), "{user} takes the mark away");
            let told =
                asked(&engine, user, Some((Some("baseline"), restricted)), (level, restricted));
            assert_eq!(told, None, "the level belongs to whoever may label");
            assert_eq!(asked(&engine, user, None, (level, None)), None);
        }
    }
    for user in [AGENT, ADMINISTRATOR] {
        for mark in ["", "baseline", "Restricted"] {
            let told =
                asked(&engine, user, Some((restricted, None)), (Some("baseline"), Some(mark)));
            assert!(told.is_some(), "{user} writes `{mark}`");
        }
    }
    let told =
        asked(&engine, ADMINISTRATOR, Some((Some("baseline"), restricted)), (restricted, None));
    assert_eq!(told, None);
    // What stood before there was this rule holds nobody up who changes something else.
    let forged = (Some("baseline"), Some(""));
    assert_eq!(asked(&engine, SOMEBODY, Some(forged), forged), None);
}

#[test]
fn the_agent_lowers_restores_and_forgets_and_that_is_all() {
    let engine = of_the_manifest();
    let all = [None, Some("privileged"), Some("baseline"), Some("restricted")];
    let marks = [None, Some("restricted")];
    for (old_level, old_mark) in all.iter().flat_map(|level| marks.map(|mark| (*level, mark))) {
        for (level, mark) in all.iter().flat_map(|level| marks.map(|mark| (*level, mark))) {
            let may = match (old_level, level) {
                (Some("restricted"), Some("baseline")) => mark.is_some(),
                (Some("baseline"), Some("restricted")) => old_mark.is_some() && mark.is_none(),
                (old, new) => old == new && new != Some("baseline") && mark.is_none(),
            };
            let told = asked(&engine, AGENT, Some((old_level, old_mark)), (level, mark));
            assert_eq!(
                told.is_none(),
                may,
                "{old_level:?} {old_mark:?} to {level:?} {mark:?}: {told:?}"
            );
        }
    }
    // An empty label was no mark, and nothing is raised for its sake.
    let told =
        asked(&engine, AGENT, Some((Some("baseline"), Some(""))), (Some("restricted"), None));
    assert!(told.is_some());
}
