//! What holds for any object and request.

use nullius_policy::admission_policy::{Evaluation, Operation, Request};
use proptest::{collection, prelude::*, sample::select};
use serde_json::{Value as Json, json};

use super::{Bench, bound, mutation};

fn value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,6}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 30, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            collection::btree_map("metadata|labels|spec|containers|name|ports|[a-c]", inner, 0..4)
                .prop_map(|entries| Json::Object(entries.into_iter().collect())),
        ]
    })
}

const POLICY: &str = "\
matchConstraints:
  objectSelector: {matchExpressions: [{key: x, operator: NotIn, values: [y]}]}
  resourceRules:
  - {apiGroups: ['*'], apiVersions: ['*'], operations: ['*'], resources: ['*/*']}
variables:
- {name: names, expression: 'object.spec.containers.map(c, c.name)'}
validations:
- {expression: 'variables.names.all(n, n.size() > 0)', messageExpression: '\"of \" + variables.names[0]'}
- {expression: 'object.metadata.labels.a == oldObject.metadata.labels.a'}
auditAnnotations:
- {key: k, valueExpression: 'string(object.spec.a)'}";

const CHANGE: &str = "\
mutations:
- patchType: JSONPatch
  jsonPatch: {expression: '[JSONPatch{op: \"add\", path: \"/spec/b\", value: object.spec}]'}
- patchType: ApplyConfiguration
  applyConfiguration: {expression: 'Object{spec: Object.spec{containers: object.spec.containers}, metadata: Object.metadata{labels: object.spec.a}}'}";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_object_is_judged_without_a_panic_and_always_the_same(
        object in value(),
        old in value(),
        operation in select(vec![Operation::Create, Operation::Update, Operation::Delete, Operation::Connect]),
        failure in select(vec!["Fail", "Ignore"]),
    ) {
        let with = |spec: &str| format!("failurePolicy: {failure}\n{spec}");
        let policies = format!("{}\n---\n{}", bound(&with(POLICY), "validationActions: [Deny, Audit]"), mutation(&with(CHANGE)));
        let mut bench = Bench::new(&policies);
        bench.request.operation = operation;
        bench.request.object = (operation != Operation::Delete).then_some(object);
        bench.request.old_object = (operation != Operation::Create).then_some(old);
        let once = bench.evaluate();
        prop_assert_eq!(&once, &bench.evaluate());
        let Evaluation::Decided(decision) = once else { return Err(TestCaseError::fail("it needs nothing")) };
        if decision.refusal.is_some() {
            prop_assert!(decision.patch.is_empty());
        }
        if bench.request.object.is_some() && decision.refusal.is_none() {
            prop_assert_eq!(decision.patch.is_empty(), decision.object(&bench.request) == bench.request.object.as_ref());
        }
    }

    #[test]
    fn any_review_is_read_or_refused(review in value(), request in value()) {
        let _ = Request::of_review(review);
        let _ = Request::of_review(json!({ "request": request }));
    }
}
