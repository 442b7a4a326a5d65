//! Policies that are made up: match rules, selectors, conditions, variables, parameters, messages, audit annotations and
//! mutations, put together at random. `NULLIUS_SEED` makes others, `NULLIUS_CASES` says how many.

use std::env;

use serde_json::{Value as Json, json};

use super::Case;

const SEED: u64 = 36;
const CASES: u64 = 48;

/// What holds, or errs, of the ConfigMaps that are sent; `$b` stands for another.
const TRUTHS: [&str; 24] = [
    "object.data.a == 'b'",
    "'a' in object.data",
    "has(object.data.n)",
    "has(object.data) && object.data.size() > 1",
    "int(object.data.n) < 6",
    "object.data.n.matches('^[0-9]+$')",
    "object.data.exists(k, object.data[k] == 'x')",
    "object.data.all(k, k.size() == 1)",
    "request.operation == 'CREATE'",
    "request.userInfo.username.startsWith('ad')",
    "request.dryRun",
    "request.name == object.metadata.name",
    "oldObject == null",
    "oldObject.data.a == object.data.a",
    "object.metadata.?labels.tier.orValue('none') == 'web'",
    "object.?data.a.hasValue()",
    "authorizer.requestResource.check('create').allowed()",
    "quantity('1Ki').isGreaterThan(quantity(string(object.data.n)))",
    "true",
    "false",
    "!($b)",
    "($b) && ($b)",
    "($b) || ($b)",
    "($b) ? ($b) : ($b)",
];
/// What only validations, messages and mutations may ask.
const LATER: [&str; 5] = [
    "variables.word == 'b'",
    "variables.count > 1",
    "variables.holds",
    "namespaceObject.metadata.name == object.metadata.namespace",
    "$b",
];
const WITH_PARAMS: [&str; 3] = [
    "params.data.word in object.data",
    "int(params.data.most) >= variables.count",
    "params != null",
];
const TEXTS: [&str; 8] = [
    "'it is ' + object.data.a",
    "string(object.metadata.name)",
    "string(variables.word)",
    "'count ' + string(variables.count)",
    "string(object.data.size())",
    "object.data.map(k, k + '=' + object.data[k]).sort().join(', ')",
    "' '",
    "'%s of %d'.format([object.kind, variables.count])",
];
const WORDS: [&str; 4] =
    ["'b'", "object.data.a", "object.?data.a.orValue('c')", "string(size(object.data))"];
const COUNTS: [&str; 3] =
    ["size(object.data)", "int(object.data.n)", "object.data.map(k, size(k)).sum()"];
const MUTATIONS: [(&str, &str); 8] = [
    ("apply", "Object{data: {'made': $t}}"),
    ("apply", "Object{metadata: Object.metadata{labels: {'made': 'yes'}}}"),
    ("apply", "Object{metadata: Object.metadata{annotations: object.data}}"),
    ("apply", "($b) ? Object{data: {'a': 'z'}} : Object{}"),
    ("patch", "[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('x~y/z'), value: $t}]"),
    (
        "patch",
        "[JSONPatch{op: 'test', path: '/data/a', value: 'b'}, JSONPatch{op: 'replace', path: '/data/a', value: $t}]",
    ),
    ("patch", "[JSONPatch{op: 'remove', path: '/data/n'}]"),
    (
        "patch",
        "object.data.filter(k, k != 'a').map(k, JSONPatch{op: 'copy', from: '/data/' + k, path: '/data/' + k + k})",
    ),
];

/// Numbers that look random and are the same for a seed: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn choose<T: Clone>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())].clone()
    }

    /// A condition of at most so many levels.
    fn truth(&mut self, among: &[&str], depth: usize) -> String {
        let mut text = self.choose(among).to_owned();
        while depth == 0 && text.contains("$b") {
            text = self.choose(among).to_owned();
        }
        while text.contains("$b") {
            let inner = self.truth(among, depth - 1);
            text = text.replacen("$b", &inner, 1);
        }
        text
    }

    fn filled(&mut self, template: &str) -> String {
        let mut text = template.to_owned();
        while text.contains("$t") {
            let inner = self.choose(&TEXTS);
            text = text.replacen("$t", inner, 1);
        }
        while text.contains("$b") {
            let inner = self.truth(&TRUTHS, 1);
            text = text.replacen("$b", &inner, 1);
        }
        text
    }

    fn labels(&mut self) -> Json {
        let values = json!(["web", "db"]);
        self.choose(&[
            json!({ "key": "tier", "operator": "In", "values": values }),
            json!({ "key": "tier", "operator": "NotIn", "values": values }),
            json!({ "key": "tier", "operator": "Exists" }),
            json!({ "key": "tier", "operator": "DoesNotExist" }),
        ])
    }

    fn constraints(&mut self) -> Json {
        let operations = self.choose(&[
            json!(["CREATE", "UPDATE"]),
            json!(["CREATE"]),
            json!(["UPDATE"]),
            json!(["*"]),
        ]);
        let (groups, resources) =
            self.choose(&[("", "configmaps"), ("*", "*"), ("", "configmaps"), ("", "*/*")]);
        let mut constraints = json!({ "resourceRules": [{
            "apiGroups": [groups], "apiVersions": ["v1"], "operations": operations, "resources": [resources],
        }]});
        if self.one_in(4) {
            constraints["objectSelector"] = json!({ "matchExpressions": [self.labels()] });
        }
        if self.one_in(5) {
            constraints["namespaceSelector"] = json!({ "matchExpressions": [self.labels()] });
        }
        if self.one_in(6) {
            constraints["excludeResourceRules"] = json!([{
                "apiGroups": [""], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["configmaps"],
            }]);
        }
        constraints
    }

    fn data(&mut self) -> Json {
        let mut object = json!({});
        if !self.one_in(6) {
            object["data"] = json!({});
            for key in ["a", "n", "x", "yy"] {
                if self.one_in(2) {
                    object["data"][key] = json!(self.choose(&["b", "c", "5", "7", "x", "", "1Mi"]));
                }
            }
        }
        if self.one_in(2) {
            object["metadata"] = json!({ "labels": { "tier": self.choose(&["web", "db", "ui"]) } });
        }
        object
    }

    fn case(&mut self, name: &str) -> Json {
        let has_params = self.one_in(3);
        let mutates = self.one_in(3);
        let mut truths: Vec<&str> = TRUTHS.to_vec();
        truths.extend(LATER);
        if has_params {
            truths.extend(WITH_PARAMS);
        }
        let holds = self.truth(&TRUTHS, 1);
        let mut spec = json!({
            "failurePolicy": self.choose(&["Fail", "Fail", "Ignore"]),
            "matchConstraints": self.constraints(),
            "variables": [
                { "name": "word", "expression": self.choose(&WORDS) },
                { "name": "count", "expression": self.choose(&COUNTS) },
                { "name": "holds", "expression": holds },
            ],
        });
        let conditions: Vec<Json> = (0..[0, 0, 1, 2][self.below(4)])
            .map(|at| json!({ "name": format!("c{at}"), "expression": self.truth(&TRUTHS, 1) }))
            .collect();
        if !conditions.is_empty() {
            spec["matchConditions"] = json!(conditions);
        }
        let mut binding = json!({});
        let mut params = json!([]);
        if has_params {
            spec["paramKind"] = json!({ "apiVersion": "v1", "kind": "ConfigMap" });
            let by = self.choose(&[
                json!({ "name": name }),
                json!({ "selector": { "matchLabels": { "of": name } } }),
                json!({ "name": "nobody" }),
            ]);
            binding["paramRef"] = by;
            binding["paramRef"]["parameterNotFoundAction"] = json!(self.choose(&["Deny", "Allow"]));
            params = json!([{
                "metadata": { "name": name, "labels": { "of": name } },
                "data": { "word": self.choose(&["a", "x"]), "most": self.choose(&["1", "3", "many"]) },
            }]);
        }
        if self.one_in(5) {
            binding["matchResources"] =
                json!({ "objectSelector": { "matchExpressions": [self.labels()] } });
        }
        if mutates {
            spec["reinvocationPolicy"] = json!(self.choose(&["Never", "IfNeeded"]));
            let mutations: Vec<Json> = (0..=self.below(2))
                .map(|_| {
                    let (how, template) = self.choose(&MUTATIONS);
                    let expression = json!({ "expression": self.filled(template) });
                    match how {
                        "apply" => json!({ "patchType": "ApplyConfiguration", "applyConfiguration": expression }),
                        _ => json!({ "patchType": "JSONPatch", "jsonPatch": expression }),
                    }
                })
                .collect();
            spec["mutations"] = json!(mutations);
        } else {
            binding["validationActions"] = self.choose(&[
                json!(["Deny"]),
                json!(["Deny"]),
                json!(["Warn"]),
                json!(["Audit"]),
                json!(["Deny", "Audit"]),
                json!(["Warn", "Audit"]),
            ]);
            let validations: Vec<Json> = (0..=self.below(3))
                .map(|at| {
                    let mut validation = json!({ "expression": self.truth(&truths, 2) });
                    if self.one_in(2) {
                        validation["message"] = json!(format!("message {at}"));
                    }
                    if self.one_in(2) {
                        validation["messageExpression"] = json!(self.choose(&TEXTS));
                    }
                    if self.one_in(3) {
                        validation["reason"] =
                            json!(self.choose(&["Forbidden", "Invalid", "RequestEntityTooLarge"]));
                    }
                    validation
                })
                .collect();
            spec["validations"] = json!(validations);
            if self.one_in(2) {
                let value = if self.one_in(4) { "null" } else { self.choose(&TEXTS) };
                spec["auditAnnotations"] = json!([{ "key": "told", "valueExpression": value }]);
            }
        }
        let kind = if mutates { "mutating" } else { "validating" };
        let requests: Vec<Json> = (0..4)
            .map(|_| match self.one_in(3) {
                true => json!({ "do": "update", "old": self.data(), "object": self.data() }),
                false => json!({ "do": "create", "object": self.data() }),
            })
            .collect();
        json!({ "name": name, "kind": kind, "params": params, "spec": spec, "binding": binding, "requests": requests })
    }
}

/// The cases that are made.
pub(super) fn cases() -> Vec<Case> {
    let number = |name: &str, or| env::var(name).map_or(or, |value| value.parse().unwrap());
    let (seed, count) = (number("NULLIUS_SEED", SEED), number("NULLIUS_CASES", CASES));
    let mut random = Random(seed);
    (0..count)
        .map(|at| serde_json::from_value(random.case(&format!("made-{seed}-{at}"))).unwrap())
        .collect()
}
