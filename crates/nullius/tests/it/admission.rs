//! The admission webhook as pods of a real cluster: what its policies refuse, change and ask for.

use std::{
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use nullius_kube::AGENT_ADMISSION;
use nullius_testkit::wait_until;
use serde_json::{Value, json};

use crate::{
    admission_lab::{Court, Ends, SOON, config_map, traffic},
    trail::events,
    world::World,
};

/// A policy that wants a label.
fn wants(court: &Court<'_>, name: &str, label: &str) -> String {
    court.validating(
        name,
        json!({ "validations": [{
            "expression": format!("has(object.metadata.labels) && '{label}' in object.metadata.labels"),
            "message": format!("the label {label} is missing"),
        }] }),
    )
}

#[test]
fn a_policy_denies_with_its_message_and_a_change_holds_within_two_seconds() {
    // All policies are compiled together: those that other tests change would be in the time.
    let Some(world) = World::alone() else { return };
    let court = Court::open(&world, "court");
    court.enforce(&[("team.yaml", wants(&court, "team", "team"))]);
    let denied = court.refuses("configmaps", &config_map(json!({})), "label team is missing");
    let name = court.own("team");
    assert_eq!((&denied["code"], &denied["reason"]), (&json!(422), &json!("Invalid")));
    assert_eq!(
        denied["message"],
        format!(
            "admission webhook \"validate-fail.admission.nullius.dev\" denied the request: configmaps \"tried\" is \
             forbidden: ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: the label team is missing"
        )
    );
    assert!(court.send("configmaps", &config_map(json!({ "team": "a" }))).is_success());
    wait_until(SOON, "the status to name the policy", || {
        court.status()["in-force"]
            .as_str()?
            .contains(&format!("ValidatingAdmissionPolicy/{name}"))
            .then_some(())
    })
    .unwrap();

    court.enforce(&[("team.yaml", wants(&court, "team", "owner"))]);
    let changed = Instant::now();
    court.refuses("configmaps", &config_map(json!({ "team": "a" })), "label owner is missing");
    assert!(changed.elapsed() < Duration::from_secs(2), "{:?}", changed.elapsed());

    court.enforce(&[]);
    court.passes("configmaps", &config_map(json!({})));
}

#[test]
fn a_policy_that_mutates_changes_the_object() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "court");
    let apply = "Object{metadata: Object.metadata{labels: Object.metadata.labels{stamped: namespaceObject.metadata.name}}}";
    let stamp = court.bound(
        "Mutating",
        "stamp",
        json!({
            "reinvocationPolicy": "Never",
            "mutations": [{ "patchType": "ApplyConfiguration", "applyConfiguration": { "expression": apply } }],
        }),
        json!({}),
    );
    // What validates sees what came of it.
    court.enforce(&[("a.yaml", stamp), ("b.yaml", wants(&court, "seen", "stamped"))]);
    court.passes("configmaps", &config_map(json!({ "stamped": "not yet" })));
    let stamped = wait_until(SOON, "a stamped object", || {
        let answer = court.send("configmaps", &config_map(json!({})));
        answer
            .is_success()
            .then(|| answer.json().unwrap())
            .filter(|object| object["metadata"]["labels"]["stamped"] == court.name())
    });
    assert_eq!(stamped.unwrap()["metadata"]["labels"]["stamped"], court.name());
}

#[test]
fn parameters_namespace_and_authorizer_are_those_of_the_moment() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "court");
    court.namespace.kubectl(&["create", "configmap", "limits", "--from-literal=most=1"]).unwrap();
    let limit = court.bound(
        "Validating",
        "limit",
        json!({
            "paramKind": { "apiVersion": "v1", "kind": "ConfigMap" },
            "validations": [{
                "expression": "!has(object.data) || size(object.data) <= int(params.data.most)",
                "messageExpression": "'at most ' + params.data.most",
            }],
        }),
        json!({
            "validationActions": ["Deny"],
            "paramRef": { "name": "limits", "parameterNotFoundAction": "Deny" },
        }),
    );
    let gold = court.validating(
        "gold",
        json!({ "validations": [{
            "expression": "object.metadata.name != 'gold' || 'tier' in namespaceObject.metadata.labels",
            "message": "this namespace is not of gold",
        }] }),
    );
    let may = court.validating(
        "may",
        json!({ "validations": [{
            "expression": "object.metadata.name != 'asks' || authorizer.serviceAccount(request.namespace, 'clerk').group('').resource('secrets').namespace(request.namespace).check('get').allowed()",
            "message": "the clerk may not read secrets",
        }] }),
    );
    court.enforce(&[("limit.yaml", limit), ("gold.yaml", gold), ("may.yaml", may)]);
    let two = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "two" }, "data": { "a": "1", "b": "2" },
    });
    court.refuses("configmaps", &two, "at most 1");
    court
        .namespace
        .kubectl(&["patch", "configmap", "limits", "-p", r#"{"data":{"most":"2"}}"#])
        .unwrap();
    court.passes("configmaps", &two);
    court.namespace.kubectl(&["delete", "configmap", "limits"]).unwrap();
    court.refuses("configmaps", &two, "no params found");
    court
        .namespace
        .kubectl(&["create", "configmap", "limits", "--from-literal=most=5"])
        .unwrap_err();

    let named = |name: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name } });
    court.enforce(&[("gold.yaml", court.validating(
        "gold",
        json!({ "validations": [{
            "expression": "object.metadata.name != 'gold' || 'tier' in namespaceObject.metadata.labels",
            "message": "this namespace is not of gold",
        }] }),
    )), ("may.yaml", court.validating(
        "may",
        json!({ "validations": [{
            "expression": "object.metadata.name != 'asks' || authorizer.serviceAccount(request.namespace, 'clerk').group('').resource('secrets').namespace(request.namespace).check('get').allowed()",
            "message": "the clerk may not read secrets",
        }] }),
    ))]);
    court.refuses("configmaps", &named("gold"), "not of gold");
    let direct = world.direct();
    direct.ok(&["label", "namespace", court.name(), "tier=gold"]).unwrap();
    court.passes("configmaps", &named("gold"));

    court.refuses("configmaps", &named("asks"), "may not read secrets");
    court
        .namespace
        .kubectl(&["create", "role", "reader", "--verb=get", "--resource=secrets"])
        .unwrap();
    let account = format!("--serviceaccount={}:clerk", court.name());
    court
        .namespace
        .kubectl(&["create", "rolebinding", "reader", "--role=reader", &account])
        .unwrap();
    court.passes("configmaps", &named("asks"));
}

#[test]
fn a_policy_that_cannot_be_compiled_denies_by_name_and_a_file_that_cannot_be_read_stays_as_it_was()
{
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "court");
    court.enforce(&[("team.yaml", wants(&court, "team", "team"))]);
    court.refuses("configmaps", &config_map(json!({})), "label team is missing");

    let broken = court.validating("team", json!({ "validations": [{ "expression": "object.(" }] }));
    court.enforce(&[("team.yaml", broken)]);
    let name = court.own("team");
    let told = court.refuses("configmaps", &config_map(json!({ "team": "a" })), "cannot be used");
    assert!(told["message"].as_str().unwrap().contains(&format!("'{name}'")), "{told}");
    wait_until(SOON, "the trouble to be told", || {
        court.status()["troubles"].as_str()?.contains(&name).then_some(())
    })
    .unwrap();

    court.enforce(&[("team.yaml", wants(&court, "team", "owner"))]);
    court.refuses("configmaps", &config_map(json!({ "team": "a" })), "label owner is missing");
    court.enforce(&[("team.yaml", "spec: [".to_owned())]);
    wait_until(SOON, "the file to be told", || {
        let troubles = court.status()["troubles"].clone();
        let told = troubles.as_str()?.contains("the file as it could be read last");
        (told && troubles.as_str()?.contains("team.yaml")).then_some(())
    })
    .unwrap();
    let denied = court.send("configmaps", &config_map(json!({ "team": "a" })));
    assert!(denied.text().contains("label owner is missing"), "{}", denied.text());
}

#[test]
fn nothing_is_asked_for_the_clusters_and_the_agents_own_namespaces() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "court");
    let everywhere = court.validating(
        "nothing",
        json!({
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"],
            }] },
            "matchConditions": [{ "name": "tried", "expression": format!("object.metadata.name == '{}'", court.own("x")) }],
            "validations": [{ "expression": "false", "message": "not here" }],
        }),
    );
    court.enforce(&[("all.yaml", everywhere)]);
    let tried =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": court.own("x") } });
    court.refuses("configmaps", &tried, "not here");
    for namespace in ["kube-system", "nullius-system"] {
        let answer = court.send_to(namespace, "configmaps", &tried);
        assert!(answer.is_success(), "{namespace}: {}", answer.text());
    }
}

#[test]
fn a_replica_goes_and_the_other_serves_and_without_any_the_failure_policies_hold() {
    let Some(world) = World::alone() else { return };
    let court = Court::open(&world, "court");
    let ignoring = court.bound(
        "Validating",
        "ignoring",
        json!({
            "failurePolicy": "Ignore",
            "matchConstraints": court.constraints("", "services"),
            "validations": [{ "expression": "false", "message": "no services" }],
        }),
        json!({ "validationActions": ["Deny"] }),
    );
    court.enforce(&[("team.yaml", wants(&court, "team", "team")), ("ignoring.yaml", ignoring)]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "tried" }, "spec": { "ports": [{ "port": 80 }] },
    });
    court.refuses("configmaps", &config_map(json!({})), "label team is missing");
    court.refuses("services", &service, "no services");
    wait_until(SOON, "two entries", || {
        (court.registration("validatingwebhookconfigurations").len() == 2).then_some(())
    })
    .unwrap();

    // A replica is told to go: nobody notices.
    let label = format!("app.kubernetes.io/component={AGENT_ADMISSION}");
    let pods =
        court.system(&["get", "pods", "-l", &label, "-o", "jsonpath={.items[*].metadata.name}"]);
    let first = pods.split_whitespace().next().unwrap().to_owned();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end = Ends(&stop);
        let sending = traffic(&court, scope, &stop, "label team is missing");
        court.system(&["delete", "pod", &first, "--wait=true"]);
        court.wait_for_replicas(2);
        drop(end);
        let (sent, wrong) = sending.join().unwrap();
        assert!(wrong.is_empty() && sent > 10, "{sent} sent: {wrong:#?}");
    });

    // One is killed: what was on its way there may fail, and then refuses; nothing passes.
    let pods =
        court.system(&["get", "pods", "-l", &label, "-o", "jsonpath={.items[*].metadata.name}"]);
    let first = pods.split_whitespace().next().unwrap().to_owned();
    court.system(&["delete", "pod", &first, "--force", "--grace-period=0", "--wait=false"]);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(5) {
        assert!(!court.send("configmaps", &config_map(json!({}))).is_success());
    }
    court.refuses("configmaps", &config_map(json!({})), "label team is missing");
    court.wait_for_replicas(2);

    // All are away: the entry that fails refuses, the one that is ignored lets through.
    let scale = |count: &str| {
        court.system(&["scale", "deployment", AGENT_ADMISSION, &format!("--replicas={count}")])
    };
    scale("0");
    court.wait_for_replicas(0);
    let labelled = config_map(json!({ "team": "a" }));
    court.refuses("configmaps", &labelled, "failed calling webhook");
    assert!(court.passes("services", &service)["metadata"]["name"] == "tried");
    scale("2");
    court.wait_for_replicas(2);
    court.passes("configmaps", &labelled);
    court.refuses("services", &service, "no services");
}

#[test]
fn another_authority_takes_over_and_a_restart_begins_with_no_request_unjudged() {
    let Some(world) = World::alone() else { return };
    let court = Court::open(&world, "court");
    court.enforce(&[("team.yaml", wants(&court, "team", "team"))]);
    court.refuses("configmaps", &config_map(json!({})), "label team is missing");
    let seen = || -> (Value, Value) {
        let webhooks = court.registration("validatingwebhookconfigurations");
        let client = &webhooks[0]["clientConfig"];
        (client["caBundle"].clone(), client["service"]["path"].clone())
    };
    let before = seen();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end = Ends(&stop);
        let sending = traffic(&court, scope, &stop, "label team is missing");
        let wish = format!("nullius.dev/rotate={}", court.name());
        court.system(&["annotate", "secret", "nullius-admission-ca", &wish, "--overwrite"]);
        let length = |bundle: &Value| bundle.as_str().unwrap().len();
        let mut longest = 0;
        let alone = wait_until(Duration::from_secs(180), "another authority alone", || {
            let (bundle, path) = seen();
            longest = longest.max(length(&bundle));
            (path != before.1 && bundle != before.0 && length(&bundle) < longest).then_some(bundle)
        });
        // Both were believed for a while, and neither was the other.
        assert!(longest > length(&before.0) * 3 / 2, "{longest}");
        assert_ne!(alone.unwrap(), before.0);
        // Warm start: new replicas are asked when they know, old ones until then.
        court.system(&["rollout", "restart", "deployment", AGENT_ADMISSION]);
        court.wait_for_replicas(2);
        drop(end);
        let (sent, wrong) = sending.join().unwrap();
        assert!(wrong.is_empty() && sent > 50, "{sent} sent: {wrong:#?}");
    });
}

#[test]
fn a_denial_and_a_warning_are_in_the_hubs_audit_with_policy_and_person() {
    let Some(world) = World::together() else { return };
    let court = Court::open(&world, "court");
    let warns = court.bound(
        "Validating",
        "warns",
        json!({ "validations": [{ "expression": "object.metadata.name != 'warned'", "message": "better not" }] }),
        json!({ "validationActions": ["Warn"] }),
    );
    court.enforce(&[("team.yaml", wants(&court, "team", "team")), ("warns.yaml", warns)]);
    court.refuses("configmaps", &config_map(json!({})), "label team is missing");
    let warned = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "warned", "labels": { "team": "a" } } });
    court.warns("configmaps", &warned, "better not");
    let told = |policy: &str, outcome: &str| {
        wait_until(SOON, &format!("an event of `{policy}`"), || {
            events(&world, &["--kind", "admission"]).into_iter().find(|event| {
                let text = event.to_string();
                text.contains(&court.own(policy)) && text.contains(outcome)
            })
        })
        .unwrap()
    };
    let denied = told("team", "the label team is missing");
    assert_eq!(denied["outcome"], "denied", "{denied:#}");
    assert_eq!(denied["principal"]["username"], "admin", "{denied:#}");
    let warned = told("warns", "better not");
    assert_ne!(warned["outcome"], "denied", "{warned:#}");
}
