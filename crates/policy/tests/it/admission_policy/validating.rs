//! What validations say: messages, reasons, actions, errors, audit annotations, budgets, variables.

use nullius_policy::admission_policy::{Detail, Operation, Version};
use serde_json::{Value as Json, json};

use super::{Bench, bound, policy};

fn told(spec: &str) -> String {
    Bench::new(&policy(spec)).told()
}

#[test]
fn the_answer_names_object_policy_and_binding() {
    let bench =
        Bench::new(&policy("validations:\n- {expression: 'object.metadata.name != \"web\"'}"));
    assert_eq!(
        bench.refusal().unwrap(),
        (
            422,
            "Invalid".to_owned(),
            "pods \"web\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: \
             object.metadata.name != \"web\""
                .to_owned()
        )
    );
    let reasoned = |reason: &str| {
        let spec = format!("validations:\n- {{expression: 'false', reason: {reason}}}");
        let (code, reason, _) = Bench::new(&policy(&spec)).refusal().unwrap();
        (code, reason)
    };
    assert_eq!(reasoned("Forbidden"), (403, "Forbidden".to_owned()));
    assert_eq!(reasoned("RequestEntityTooLarge"), (413, "RequestEntityTooLarge".to_owned()));
}

#[test]
fn the_first_failure_answers_and_all_are_causes() {
    let bench = Bench::new(&policy(
        "validations:\n- {expression: 'true'}\n- {expression: 'false', message: second, reason: Forbidden}\n- {expression: 'false', message: third}",
    ));
    let refusal = bench.decide().refusal.unwrap();
    assert_eq!((refusal.code, refusal.causes.len()), (403, 2));
    assert!(refusal.message.ends_with("denied request: second"), "{}", refusal.message);
}

#[test]
fn messages_are_made_or_fall_back() {
    let message =
        |text: &str| told(&format!("validations:\n- {{expression: 'object == 1', {text}}}"));
    assert_eq!(message("message: ' plain '"), "plain");
    assert_eq!(message("message: plain, messageExpression: '\" made \"'"), "made");
    assert_eq!(message("message: plain, messageExpression: '\" \"'"), "plain");
    assert_eq!(message("message: plain, messageExpression: '\"a\\nb\"'"), "plain");
    assert_eq!(message("message: plain, messageExpression: '\"a\\n\"'"), "a");
}

#[test]
fn a_message_that_errs_or_is_long_falls_back() {
    let made = |text: &str| {
        told(&format!(
            "validations:\n- expression: 'false'\n  message: plain\n  messageExpression: '{text}'"
        ))
    };
    assert_eq!(made("string(object.nothing)"), "plain");
    let long = "\"a\".replace(\"a\", \"0123456789\").replace(\"0\", \"0123456789\").replace(\"1\", \"0123456789\").replace(\"2\", \"0123456789\").replace(\"3\", \"0123456789\").replace(\"4\", \"0123456789\")";
    let size = format!("string(size({long}))");
    let length: usize = made(&size).parse().unwrap();
    assert_eq!(made(long).len() == length, length <= 5120, "{length}");
}

#[test]
fn errors_follow_the_failure_policy() {
    let spec = "validations:\n- {expression: 'object.nothing == 1'}";
    assert_eq!(
        told(spec),
        "expression 'object.nothing == 1' resulted in error: no such key: nothing"
    );
    let (code, reason, _) = Bench::new(&policy(spec)).refusal().unwrap();
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert_eq!(Bench::new(&policy(&format!("failurePolicy: Ignore\n{spec}"))).refusal(), None);
    // A validation that fails denies under Ignore too.
    assert_eq!(
        told("failurePolicy: Ignore\nvalidations:\n- {expression: 'false', message: no}"),
        "no"
    );
    // Under Fail an error takes the actions of the binding.
    let warned = Bench::new(&bound(spec, "validationActions: [Warn]")).decide();
    assert_eq!(warned.refusal, None);
    assert_eq!(
        warned.warnings,
        [
            "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': expression 'object.nothing == 1' resulted in \
          error: no such key: nothing"
        ]
    );
}

#[test]
fn the_audit_is_told_of_failures() {
    let spec = "validations:\n- {expression: 'true'}\n- {expression: 'false', message: a<b}\n- {expression: 'false', message: c}";
    let key = "validation.policy.admission.k8s.io/validation_failure";
    let annotation = |version: u16| {
        let policies = bound(spec, "validationActions: [Audit, Warn]");
        let decision = Bench::of_version(&policies, Version::minor(version)).decide();
        assert_eq!((decision.refusal, decision.warnings.len()), (None, 2));
        decision.audit_annotations[key].clone()
    };
    let one = r#"{"message":"a\u003cb","policy":"p","binding":"b","expressionIndex":1,"validationActions":["Audit","Warn"]}"#;
    let two = r#"{"message":"c","policy":"p","binding":"b","expressionIndex":2,"validationActions":["Audit","Warn"]}"#;
    assert_eq!(annotation(36), format!("[{one}]"));
    assert_eq!(annotation(37), format!("[{one},{two}]"));
}

#[test]
fn audit_annotations_are_published_and_their_errors_deny() {
    let annotations = |expression: &str, more: &str| {
        let spec =
            format!("{more}auditAnnotations:\n- {{key: k, valueExpression: '{expression}'}}");
        Bench::new(&bound(&spec, "validationActions: [Audit]")).decide()
    };
    let value =
        |expression: &str| annotations(expression, "").audit_annotations.get("p/k").cloned();
    assert_eq!(value("\" by \" + request.userInfo.username + \" \""), Some("by ada".to_owned()));
    assert_eq!(value("null"), None);
    assert_eq!(value("\"  \""), None);
    let denied = annotations("string(object.nothing)", "").refusal.unwrap();
    assert!(
        denied.message.ends_with(
            "expression 'string(object.nothing)' resulted in error: no such key: nothing"
        )
    );
    let ignored = annotations("string(object.nothing)", "failurePolicy: Ignore\n");
    assert_eq!((ignored.refusal, ignored.audit_annotations.len()), (None, 0));
}

#[test]
fn conditions_come_first() {
    let with = |conditions: &str, more: &str| {
        Bench::new(&policy(&format!(
            "{more}validations:\n- {{expression: 'false', message: hit}}\nmatchConditions:\n{conditions}"
        )))
    };
    assert_eq!(with("- {name: a, expression: 'true'}", "").told(), "hit");
    assert_eq!(with("- {name: a, expression: 'false'}", "").refusal(), None);
    // One that is false skips the policy whatever erred; else the errors are the answer.
    let errs = "- {name: a, expression: 'object.nothing == 1'}";
    assert_eq!(with(&format!("{errs}\n- {{name: b, expression: 'false'}}"), "").refusal(), None);
    let error = "expression 'object.nothing == 1' resulted in error: no such key: nothing";
    assert_eq!(with(errs, "").told(), error);
    assert_eq!(with(errs, "failurePolicy: Ignore\n").refusal(), None);
    let other = "- {name: b, expression: 'object.nowhere == 1'}";
    assert_eq!(
        with(&format!("{errs}\n{other}"), "").told(),
        format!("[{error}, {}]", error.replace("nothing", "nowhere"))
    );
    // Conditions see no namespace, validations do.
    assert_eq!(with("- {name: a, expression: 'namespaceObject == null'}", "").told(), "hit");
    assert_eq!(
        told("validations:\n- {expression: 'namespaceObject.metadata.labels.team == \"sales\"'}"),
        ""
    );
}

#[test]
fn variables_are_made_once_a_phase_and_when_they_are_asked_for() {
    let spec = "variables:\n- {name: all, expression: object.spec.containers}\n- {name: images, expression: 'variables.all.map(c, c.image)'}\n- {name: broken, expression: 'object.nothing'}\nvalidations:\n- {expression: 'variables.images.size() == 1'}\n- {expression: 'variables.images.exists(i, i.startsWith(\"evil/\"))', messageExpression: '\"of \" + variables.images[0]'}";
    let decision = Bench::new(&policy(spec)).decide();
    assert!(decision.refusal.unwrap().message.ends_with("of registry.example/a:1"));
    let run = &decision.trace[0].bindings[0].runs[0];
    let made: Vec<_> = run.variables.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(made, ["all", "images", "all", "images"], "once for validations, once for messages");
    assert_eq!(run.validations[1].value, Some(json!(false)));
    assert!(run.validations[0].cost > 0);
    assert_eq!(
        told(
            "variables:\n- {name: v, expression: 'object.nothing'}\nvalidations:\n- {expression: 'variables.v == 1'}"
        ),
        "expression 'variables.v == 1' resulted in error: composited variable \"v\" fails to evaluate: no such key: nothing"
    );
    // What a variable asks of the authorizer is not there for messages.
    assert_eq!(
        told(
            "variables:\n- {name: v, expression: 'authorizer.path(\"/\").check(\"get\").allowed()'}\nvalidations:\n- {expression: 'false', message: plain, messageExpression: 'string(variables.v)'}"
        ),
        "plain"
    );
}

#[test]
fn the_authorizer_answers() {
    let allowed = |check: &str| {
        Bench::new(&policy(&format!("validations:\n- {{expression: '{check}.allowed()'}}")))
            .refusal()
            .is_none()
    };
    assert!(allowed("authorizer.requestResource.check(\"delete\")"));
    assert!(allowed(
        "authorizer.group(\"\").resource(\"pods\").namespace(\"shop\").check(\"delete\")"
    ));
    assert!(!allowed("authorizer.group(\"\").resource(\"pods\").check(\"get\")"));
    let needs = Bench::new(&policy(
        "validations:\n- {expression: 'authorizer.path(\"/metrics\").check(\"get\").allowed()'}",
    ))
    .needs();
    assert_eq!(needs.len(), 1);
    assert!(needs[0].to_string().contains("`get` on path `/metrics`"), "{}", needs[0]);
}

#[test]
fn what_costs_too_much_is_refused() {
    // Nested loops over a large list go past the limit of one expression.
    let mut bench = Bench::new(&policy(
        "validations:\n- {expression: 'object.spec.all.all(a, object.spec.all.all(b, object.spec.all.all(c, a + b + c >= 0)))'}",
    ));
    let numbers: Vec<u64> = (0..200).collect();
    bench.request.object.as_mut().unwrap()["spec"]["all"] = json!(numbers);
    let told = bench.told();
    assert!(
        told.ends_with("resulted in error: operation cancelled: actual cost limit exceeded"),
        "{told}"
    );
    // Each within its limit, together beyond the budget of the policy.
    let one =
        "- {expression: 'object.spec.all.all(a, object.spec.all.all(b, a + b >= 0))'}\n".repeat(64);
    let mut bench = Bench::new(&policy(&format!("validations:\n{one}")));
    bench.request.object.as_mut().unwrap()["spec"]["all"] = json!(numbers);
    assert_eq!(
        bench.told(),
        "validation failed due to running out of cost budget, no further validation rules will be run"
    );
}

#[test]
fn deletions_see_the_old_object() {
    let spec = "matchConstraints:\n  resourceRules:\n  - {apiGroups: [''], apiVersions: [v1], operations: [DELETE], resources: [pods]}\nvalidations:\n- {expression: 'object == null && oldObject.metadata.name == \"web\" && request.operation == \"CREATE\"', message: kept}";
    let mut bench = Bench::new(&policy(spec));
    bench.request.operation = Operation::Delete;
    bench.request.old_object = bench.request.object.take();
    assert_eq!(bench.told(), "kept");
}

#[test]
fn requests_are_seen_as_the_api_server_shows_them() {
    let holds = |expression: &str| {
        let told = told(&format!("validations:\n- {{expression: '{expression}'}}"));
        assert_eq!(told, "", "{expression}");
    };
    holds(
        "request.kind.kind == \"Pod\" && request.kind.group == \"\" && request.resource.resource == \"pods\"",
    );
    holds(
        "request.operation == \"CREATE\" && request.name == \"web\" && request.namespace == \"shop\"",
    );
    holds("request.userInfo.username == \"ada\" && request.userInfo.groups == [\"dev\"]");
    holds("!has(request.userInfo.uid) && !has(request.subResource) && !request.dryRun");
    holds("request.options.kind == \"CreateOptions\"");
    holds("oldObject == null && !has(namespaceObject.metadata.finalizers)");
    holds("dyn(request).uid == \"\" && dyn(request).object == null");
    holds("!has(dyn(namespaceObject).kind)");
}

#[test]
fn a_name_is_made_before_validation() {
    let mut bench = Bench::new(&policy(
        "validations:\n- {expression: 'request.name == object.metadata.name && request.name.startsWith(\"made-\")'}\n- {expression: 'false', message: end}",
    ));
    bench.request.name = String::new();
    let metadata = &mut bench.request.object.as_mut().unwrap()["metadata"];
    *metadata = json!({ "generateName": "made-" });
    assert_eq!(bench.told(), "end");
    let decision = bench.decide();
    let object = decision.object(&bench.request).unwrap();
    assert_eq!(object["metadata"], json!({ "generateName": "made-" }));
}

#[test]
fn who_is_out_of_time_is_refused_whatever_the_failure_policy_says() {
    let all = "object.spec.all.all(a, object.spec.all.all(b, a + b >= 0))";
    for spec in [
        format!("failurePolicy: Ignore\nvalidations:\n- {{expression: '{all}'}}"),
        format!(
            "failurePolicy: Ignore\nvariables:\n- {{name: v, expression: '{all}'}}\nvalidations:\n- {{expression: 'true || variables.v'}}\n- {{expression: 'variables.v || true'}}"
        ),
    ] {
        let mut bench = Bench::new(&policy(&spec));
        let numbers: Vec<u64> = (0..100).collect();
        bench.request.object.as_mut().unwrap()["spec"]["all"] = json!(numbers);
        assert_eq!(bench.refusal(), None);
        bench.interrupt = Some(|| true);
        let (code, _, message) = bench.refusal().unwrap();
        assert_eq!(
            (code, message.as_str()),
            (500, "Internal error occurred: the evaluation of policies took too long")
        );
    }
}

/// How many values a value is made of, and its longest text.
fn extent(value: &Json) -> (usize, usize) {
    let parts: Vec<&Json> = match value {
        Json::Array(items) => items.iter().collect(),
        Json::Object(fields) => fields.values().collect(),
        Json::String(text) => return (1, text.chars().count()),
        Json::Null | Json::Bool(_) | Json::Number(_) => return (1, 0),
    };
    parts
        .into_iter()
        .map(extent)
        .fold((1, 0), |(count, longest), (more, length)| (count + more, longest.max(length)))
}

#[test]
fn a_trace_keeps_what_came_of_rules_and_of_values_only_as_much_as_somebody_reads() {
    let spec = "variables:\n- {name: all, expression: object.spec.containers}\n- {name: long, expression: 'object.metadata.annotations.long'}\n- {name: deep, expression: '[object.metadata.annotations]'}\nvalidations:\n- {expression: 'variables.all.size() > 5000 && variables.long != \"\" && variables.deep.size() == 1'}";
    let mut bench = Bench::new(&policy(spec));
    let object = bench.request.object.as_mut().unwrap();
    let container = object["spec"]["containers"][0].clone();
    object["spec"]["containers"] = Json::Array(vec![container; 6000]);
    object["metadata"]["annotations"] = json!({ "long": "é".repeat(50_000) });
    let values = |bench: &Bench| {
        let decision = bench.decide();
        assert_eq!(decision.refusal, None);
        let run = decision.trace[0].bindings[0].runs[0].clone();
        assert_eq!(run.validations[0].value, Some(json!(true)));
        assert_eq!(run.variables.len(), 3);
        run.variables.into_iter().map(|variable| variable.value).collect::<Vec<_>>()
    };
    let shown = values(&bench);
    for value in &shown {
        let (count, longest) = extent(value.as_ref().unwrap());
        assert!(count < 300 && longest < 500, "{count} values, {longest} letters");
    }
    let list = shown[0].as_ref().unwrap().as_array().unwrap();
    assert_eq!(list[0], container_of(&bench));
    let rest: usize =
        list.last().unwrap().as_str().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    assert_eq!(rest + list.len() - 1, 6000);
    bench.detail = Detail::Outcomes;
    let kept = values(&bench);
    assert_eq!((&kept[0], &kept[2]), (&None, &None));
    assert!(extent(kept[1].as_ref().unwrap()).1 < 500);
}

fn container_of(bench: &Bench) -> Json {
    bench.request.object.as_ref().unwrap()["spec"]["containers"][0].clone()
}
