//! What is wrong with a policy is told as the API server tells it.

use nullius_policy::admission_policy::{PolicySet, Programs, Request, Taken, Version};
use serde_json::json;

use super::{mutation, policy, yaml};

fn faults(policies: &str) -> Vec<String> {
    let mut set = PolicySet::new(Version::minor(36));
    let mut told = Vec::new();
    for document in policies.split("\n---\n") {
        if let Err(faults) = set.add(&yaml(document)) {
            told.extend(faults.iter().map(ToString::to_string));
        }
    }
    told
}

fn of_policy(spec: &str) -> Vec<String> {
    faults(&policy(spec))
}

#[test]
fn a_good_policy_has_no_fault() {
    assert_eq!(of_policy("validations:\n- {expression: 'true'}"), Vec::<String>::new());
    let good = mutation(
        "mutations:\n- patchType: JSONPatch\n  jsonPatch: {expression: '[JSONPatch{op: \"test\"}]'}",
    );
    assert_eq!(faults(&good), Vec::<String>::new());
}

#[test]
fn policies_that_say_the_same_of_the_same_share_a_program() {
    let programs = Programs::default();
    let mut set = PolicySet::sharing(Version::minor(36), programs.clone());
    let mut add = |name: &str, spec: &str| {
        let documents = policy(spec).replacen("{name: p}", &format!("{{name: {name}}}"), 1);
        let document = documents.split("\n---\n").next().unwrap();
        assert_eq!(set.add(&yaml(document)).unwrap(), Taken::Added, "{document}");
        programs.len()
    };
    let rule = "validations:\n- {expression: 'object.metadata.name != variables.no'}";
    let variables = |of: &str| format!("variables:\n- {{name: no, expression: {of}}}\n{rule}");
    assert_eq!(add("one", &variables("'\"x\"'")), 2);
    assert_eq!(add("same", &variables("'\"x\"'")), 2);
    // The same words, where the variable has the same type and another value.
    assert_eq!(add("valued", &variables("'\"y\"'")), 3);
    // The same words, where they mean something else: the variable, and what is made of it.
    assert_eq!(add("typed", &variables("'1'")), 5);
    let parameters = "paramKind: {apiVersion: v1, kind: ConfigMap}";
    assert_eq!(add("taking", &format!("{parameters}\n{}", variables("'1'"))), 7);
    // Conditions have no variables, validations of such a policy have none that it could name.
    let both =
        "matchConditions:\n- {name: c, expression: 'true'}\nvalidations:\n- {expression: 'true'}";
    assert_eq!(add("both", both), 9);
    drop(set);
    assert!(programs.is_empty());
}

#[test]
fn expressions_are_checked_with_their_types() {
    assert_eq!(
        of_policy("validations:\n- {expression: 'object.x +'}"),
        [
            "spec.validations[0].expression: Invalid value: \"object.x +\": compilation failed: ERROR: <input>:1:11: \
             Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', \
             NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | object.x +\n | ..........^"
        ]
    );
    let must = |field: &str, source: &str, told: &str| {
        format!("spec.{field}: Invalid value: \"{source}\": {told}")
    };
    for (spec, told) in [
        (
            "validations:\n- {expression: '1'}",
            must("validations[0].expression", "1", "must evaluate to bool but got int"),
        ),
        (
            "validations:\n- {expression: 'object.ok'}",
            must("validations[0].expression", "object.ok", "must evaluate to bool but got dyn"),
        ),
        (
            "validations:\n- {expression: 'true', messageExpression: '1'}",
            must("validations[0].messageExpression", "1", "must evaluate to string but got int"),
        ),
        (
            "auditAnnotations:\n- {key: k, valueExpression: '1'}",
            must(
                "auditAnnotations[0].valueExpression",
                "1",
                "must evaluate to one of [string null_type] but got int",
            ),
        ),
        (
            "matchConditions:\n- {name: c, expression: '[1]'}\nvalidations:\n- {expression: 'true'}",
            must("matchConditions[0].expression", "[1]", "must evaluate to bool but got list(int)"),
        ),
    ] {
        assert_eq!(of_policy(spec), [told], "{spec}");
    }
}

#[test]
fn names_are_known_where_they_have_a_value() {
    let undeclared = |spec: &str, name: &str| {
        let told = of_policy(spec).join("\n");
        assert!(told.contains(&format!("undeclared reference to '{name}'")), "{spec}: {told}");
    };
    undeclared("validations:\n- {expression: 'params.x == 1'}", "params");
    undeclared(
        "validations:\n- {expression: 'true', messageExpression: 'string(authorizer.path(\"/\").check(\"get\").allowed())'}",
        "authorizer",
    );
    undeclared(
        "variables:\n- {name: v, expression: '1'}\nmatchConditions:\n- {name: c, expression: 'variables.v == 1'}\nvalidations:\n- {expression: 'true'}",
        "variables",
    );
    let told = of_policy("variables:\n- {name: a, expression: variables.b}\n- {name: b, expression: '1'}\nvalidations:\n- {expression: 'true'}").join("\n");
    assert!(told.contains("undefined field 'b'"), "{told}");
    let told = of_policy("validations:\n- {expression: 'request.object == null'}").join("\n");
    assert!(told.contains("undefined field 'object'"), "{told}");
    for spec in [
        "paramKind: {apiVersion: v1, kind: ConfigMap}\nvalidations:\n- {expression: 'params == null'}",
        "variables:\n- {name: a, expression: '1'}\n- {name: b, expression: variables.a + 1}\nvalidations:\n- {expression: 'variables.b > variables.a'}",
        "validations:\n- {expression: 'authorizer.requestResource.check(\"get\").allowed() && request.userInfo.groups.size() > 0'}",
        "validations:\n- {expression: 'namespaceObject.metadata.labels[\"a\"] == \"b\"'}",
    ] {
        assert_eq!(of_policy(spec), Vec::<String>::new(), "{spec}");
    }
    // Types of variables are checked, those of objects become anything.
    let told = of_policy("variables:\n- {name: n, expression: '1'}\nvalidations:\n- {expression: 'variables.n == \"a\"'}").join("\n");
    assert!(told.contains("no matching overload for '_==_' applied to '(int, string)'"), "{told}");
}

#[test]
fn fields_are_checked_as_the_api_server_checks_them() {
    for (spec, told) in [
        (
            "failurePolicy: Maybe\nvalidations:\n- {expression: 'true'}",
            "spec.failurePolicy: Unsupported value: \"Maybe\": supported values: \"Fail\", \"Ignore\"",
        ),
        (
            "validations: []",
            "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
        ),
        (
            "validations:\n- {expression: ' '}",
            "spec.validations[0].expression: Required value: expression is not specified",
        ),
        (
            "validations:\n- {expression: 'true', message: \"a\\nb\"}",
            "spec.validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
        ),
        (
            "validations:\n- {expression: 'true', reason: Teapot}",
            "spec.validations[0].reason: Unsupported value: \"Teapot\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
        ),
        (
            "variables:\n- {name: 'a-b', expression: '1'}\nvalidations:\n- {expression: 'true'}",
            "spec.variables[0].name: Invalid value: \"a-b\": must be a valid CEL identifier",
        ),
        (
            "paramKind: {apiVersion: a/b/c, kind: X}\nvalidations:\n- {expression: 'true'}",
            "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
        ),
        (
            "matchConditions:\n- {name: c, expression: 'true'}\n- {name: c, expression: 'true'}\nvalidations:\n- {expression: 'true'}",
            "spec.matchConditions[1].name: Duplicate value: \"c\"",
        ),
        (
            "matchConstraints: {}\nvalidations:\n- {expression: 'true'}",
            "spec.matchConstraints.resourceRules: Required value",
        ),
        (
            "matchConstraints:\n  resourceRules:\n  - {apiGroups: ['*', a], apiVersions: [v1], operations: [MAKE], resources: [x/*, x/y]}\nvalidations:\n- {expression: 'true'}",
            "spec.matchConstraints.resourceRules[0].operations[0]: Unsupported value: \"MAKE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
        ),
        (
            "matchConstraints:\n  objectSelector: {matchExpressions: [{key: a, operator: In}]}\n  resourceRules:\n  - {apiGroups: [''], apiVersions: [v1], operations: ['*'], resources: [pods]}\nvalidations:\n- {expression: 'true'}",
            "spec.matchConstraints.objectSelector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
    ] {
        let found = of_policy(spec);
        assert!(found.iter().any(|fault| fault == told), "{spec}\n{found:#?}");
    }
    assert_eq!(
        of_policy("auditAnnotations:\n- {key: 'a b', valueExpression: '\"x\"'}").len(),
        1,
        "a key that cannot stand in an audit event"
    );
    let unknown = of_policy("validations:\n- {expression: 'true', mesage: x}");
    assert_eq!(
        unknown,
        [
            "spec.validations[0].mesage: unknown field `mesage`, expected one of `expression`, `message`, `reason`, `messageExpression`"
        ]
    );
}

#[test]
fn mutations_and_bindings_are_checked_too() {
    let of = |spec: &str| faults(&mutation(spec));
    assert_eq!(
        of("mutations:\n- patchType: JSONPatch\n  jsonPatch: {expression: 'object'}"),
        [
            "spec.mutations[0].jsonPatch.expression: Invalid value: \"object\": must evaluate to list(JSONPatch) but got dyn"
        ]
    );
    assert_eq!(
        of(
            "mutations:\n- patchType: ApplyConfiguration\n  applyConfiguration: {expression: 'Object.spec{}'}"
        ),
        [
            "spec.mutations[0].applyConfiguration.expression: Invalid value: \"Object.spec{}\": must evaluate to Object but got Object.spec"
        ]
    );
    assert_eq!(
        of("mutations:\n- patchType: JSONPatch"),
        [
            "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch"
        ]
    );
    let deletes = "matchConstraints:\n  resourceRules:\n  - {apiGroups: [''], apiVersions: [v1], operations: [DELETE], resources: [pods]}\nmutations:\n- patchType: ApplyConfiguration\n  applyConfiguration: {expression: 'Object{}'}";
    assert_eq!(
        of(deletes),
        [
            "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\""
        ]
    );
    let binding = |spec: serde_json::Value| {
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": "b" }, "spec": spec,
        });
        let faults = PolicySet::new(Version::minor(36)).add(&object).unwrap_err();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        binding(json!({ "policyName": "p", "validationActions": ["Deny", "Warn"] })),
        [
            "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn (repeating the \
          same validation failure information in the API response and headers serves no purpose)"
        ]
    );
    assert_eq!(
        binding(
            json!({ "policyName": "p", "validationActions": ["Deny"], "paramRef": { "name": "x", "selector": {} } })
        ),
        [
            "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
            "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
            "spec.paramRef.parameterNotFoundAction: Required value",
        ]
    );
    assert_eq!(
        binding(json!({})),
        [
            "spec.policyName: Required value",
            "spec.validationActions: Required value: at least one validation action is required",
        ]
    );
}

#[test]
fn other_kinds_are_left_alone_and_older_versions_are_told() {
    let mut set = PolicySet::new(Version::minor(36));
    assert_eq!(set.add(&json!({ "apiVersion": "v1", "kind": "Pod" })), Ok(Taken::Foreign));
    let old = json!({ "apiVersion": "admissionregistration.k8s.io/v1beta1", "kind": "ValidatingAdmissionPolicy" });
    assert!(
        set.add(&old).unwrap_err()[0].message.contains("write `admissionregistration.k8s.io/v1`")
    );
    let good = policy("validations:\n- {expression: 'true'}");
    let (one, binding) = good.split_once("\n---\n").unwrap();
    assert_eq!(set.add(&yaml(one)), Ok(Taken::Added));
    assert_eq!(set.unbound().collect::<Vec<_>>(), ["p"]);
    assert!(set.add(&yaml(one)).unwrap_err()[0].message.contains("stands twice"));
    assert_eq!(set.add(&yaml(binding)), Ok(Taken::Added));
    assert_eq!((set.unbound().count(), set.dangling().count(), set.len()), (0, 0, 1));
}

#[test]
fn a_review_is_read_as_what_it_claims_to_be_or_not_at_all() {
    let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "1", "operation": "CREATE", "name": "p", "namespace": "shop", "dryRun": false, "options": null,
        "kind": { "group": "", "version": "v1", "kind": "Pod" }, "requestKind": null,
        "resource": { "group": "", "version": "v1", "resource": "pods" }, "oldObject": null,
        "userInfo": { "username": "ada", "groups": ["dev"], "extra": { "a/b": ["c"], "d": null } },
        "object": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" } },
    }});
    let request = Request::of_review(review.clone()).unwrap();
    assert_eq!(
        (request.user.groups.as_slice(), request.dry_run),
        (["dev".to_owned()].as_slice(), false)
    );
    assert_eq!(Request::unknown_field(&review), None);
    let changed = |path: &str, value: serde_json::Value| {
        let mut review = review.clone();
        let (parent, field) = path.rsplit_once('/').unwrap();
        review.pointer_mut(parent).unwrap()[field] = value;
        review
    };
    for (path, value, told) in [
        ("/request", json!(null), "request: it is missing"),
        ("/request", json!([]), "request: it must be an object"),
        ("/request/userInfo", json!("root"), "request.userInfo: it must be an object"),
        (
            "/request/userInfo/username",
            json!(["root"]),
            "request.userInfo.username: it must be text",
        ),
        (
            "/request/userInfo/groups",
            json!("dev"),
            "request.userInfo.groups: it must be a list of texts",
        ),
        (
            "/request/userInfo/groups",
            json!([1]),
            "request.userInfo.groups: it must be a list of texts",
        ),
        (
            "/request/userInfo/extra",
            json!({ "a": "b" }),
            "request.userInfo.extra.a: it must be a list of texts",
        ),
        ("/request/dryRun", json!("yes"), "request.dryRun: it must be `true` or `false`"),
        ("/request/name", json!(1), "request.name: it must be text"),
        ("/request/namespace", json!({}), "request.namespace: it must be text"),
        ("/request/operation", json!(["CREATE"]), "request.operation: it must be text"),
        ("/request/subResource", json!(false), "request.subResource: it must be text"),
        ("/request/options", json!("x"), "request.options: it must be an object"),
        ("/request/object", json!([]), "request.object: it must be an object"),
        ("/request/oldObject", json!("x"), "request.oldObject: it must be an object"),
        ("/request/kind/group", json!(0), "request.kind.group: it must be text"),
        (
            "/request/requestResource",
            json!("pods"),
            "request.requestResource: it must be an object",
        ),
        ("/request/uid", json!(7), "request.uid: it must be text"),
        (
            "/request/object/kind",
            json!("Secret"),
            "request.object.kind: it is `Secret`, and the request is for a `v1 Pod`",
        ),
        (
            "/request/object/apiVersion",
            json!("apps/v1"),
            "request.object.apiVersion: it is `apps/v1`, and the request is for a `v1 Pod`",
        ),
        ("/request/object/kind", json!(1), "request.object.kind: it must be text"),
    ] {
        let refused = Request::of_review(changed(path, value)).unwrap_err();
        assert_eq!(refused.to_string(), told);
    }
    for (path, field) in [
        ("/requst", "requst"),
        ("/request/Object", "request.Object"),
        ("/request/kind/plural", "request.kind.plural"),
        ("/request/userInfo/name", "request.userInfo.name"),
    ] {
        let newer = changed(path, json!(1));
        assert!(Request::of_review(newer.clone()).is_ok(), "a server may be newer");
        assert_eq!(Request::unknown_field(&newer).unwrap().field, field);
    }
}
