//! Our kind `Intention` as a cluster knows it, who writes it, and the policy that refuses what a schema cannot.
//!
//! Fields that nobody knows are kept by the API server and refused by the policy: dropped in silence they would make an intention say
//! more than was meant. What only the program knows, such as whether an expression can be read, the status says; a
//! node then keeps what the intention said when it could read it last.

use serde_json::{Value, json};

use super::{
    guards::binding_of,
    schema::{
        KEEP, Kind, condition_path, conditions, fields, for_people, list, nothing_unknown, number,
        of_ours, said, text, texts, truth, words,
    },
};
use crate::names::SYSTEM_NAMESPACE;

const NAME: &str = "nullius-intentions";
const PLURAL: &str = "intentions";

pub(super) fn objects() -> Vec<Value> {
    let policy = strict();
    let binding = binding_of(&policy);
    let [readers, writers] = for_people(PLURAL);
    vec![definition(), policy, binding, readers, writers]
}

fn definition() -> Value {
    let columns = json!([
        { "name": "Destination", "type": "string", "jsonPath": ".spec.destination.serviceAccount" },
        { "name": "Accepted", "type": "string", "jsonPath": condition_path("Accepted") },
        { "name": "InForce", "type": "string", "jsonPath": condition_path("InForce") },
        { "name": "Mode", "type": "string", "jsonPath": ".spec.mode", "priority": 1 },
        { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
    ]);
    Kind {
        name: "Intention",
        plural: PLURAL,
        scope: "Namespaced",
        short_names: &[],
        categories: &["nullius"],
        about: "Who may call a workload, and with what requests; what no intention allows is denied.",
        columns,
        spec: spec(),
        status: status(),
    }
    .definition()
}

fn ports(about: &str) -> Value {
    list(
        about,
        json!({ "type": "integer", "format": "int32", "minimum": 1.0, "maximum": 65_535.0 }),
    )
}

fn spec() -> Value {
    let until = json!({
        "type": "string", "format": "date-time", "description": "When that ends; after it the destination is strict.",
    });
    fields(
        "Who may call a destination.",
        &["destination"],
        json!({
            "destination": destination(),
            "sources": list(
                "Who calls, and whether they may; the most exact one that fits decides, wherever it stands.",
                source(),
            ),
            "mode": words("Whether it decides, or is only watched.", &["enforce", "shadow"]),
            "permissive": fields(
                "For how long what no rule decides is let pass.",
                &["until"],
                json!({ "until": until, "ports": ports("Ports for which that is; none stands for those of the destination.") }),
            ),
            "audit": words("What is recorded beside denials: all stands for each call that is allowed.", &["all"]),
            "issuers": list("Whose tokens count in the whole cluster: only in nullius-system, for any destination.", issuer()),
            "limits": list("How many requests each caller may send; each limit counts.", limit()),
            "api": api(),
        }),
    )
}

fn destination() -> Value {
    fields(
        "Workloads that are called; all that it says must fit.",
        &[],
        json!({
            "serviceAccount": text("The service account of the pods."),
            "labels": {
                "type": "object", "minProperties": 1, "description": "Labels that the pods have, all of them.",
                "additionalProperties": { "type": "string" },
            },
            "namespace": text("Their namespace, where it is not the intention's own: only in nullius-system."),
            "any": truth("All pods of the cluster: only in nullius-system."),
            "ports": ports("Ports of the pods; none stands for all."),
        }),
    )
}

fn limit() -> Value {
    let count = |about: &str| json!({ "type": "integer", "format": "int32", "minimum": 1.0, "maximum": 1_000_000.0, "description": about });
    fields(
        "How many requests may be sent; more are answered 429.",
        &["requestsPerSecond"],
        json!({
            "requestsPerSecond": count("In a second, over time."),
            "burst": count("At once; without it as many as in a second."),
            "per": words("Who is counted: source stands for each caller, subject for each subject of a verified token.", &["source", "subject"]),
        }),
    )
}

fn api() -> Value {
    // No field of the document has a name here: the reader knows them.
    let schema = json!({
        "type": "object", KEEP: true, "x-kubernetes-map-type": "atomic",
        "description": "A document of OpenAPI 3.1; nothing outside of it is referred to.",
    });
    fields(
        "Which requests there are at all: what the schema does not declare is answered 400.",
        &["schema"],
        json!({
            "schema": schema,
            "mode": words("Whether it decides, or is only watched.", &["enforce", "shadow"]),
            "maxBodyBytes": {
                "type": "integer", "format": "int64", "minimum": 1.0, "maximum": 8_388_608.0,
                "description": "Bytes of a body that is looked into, a mebibyte unless it is said; longer ones are answered 413.",
            },
        }),
    )
}

fn issuer() -> Value {
    fields(
        "An issuer of tokens, with its keys in one of two ways.",
        &["issuer"],
        json!({
            "issuer": text("Who it is: the claim iss of its tokens."),
            "jwksUrl": text("The https address at which it publishes its keys; agents fetch them."),
            "ca": text("Authorities in PEM that stand behind that address; without them those that browsers believe."),
            "jwks": text("The keys themselves, a JSON web key set."),
        }),
    )
}

fn source() -> Value {
    let permissions = list(
        "Which requests they may send, in place of an action; the first that fits decides.",
        permission(),
    );
    fields(
        "Who calls, named in one way, and whether they may.",
        &[],
        json!({
            "spiffeId": text("A workload by its ID."),
            "serviceAccount": text("A workload by its service account, of the intention's own namespace unless another is named."),
            "namespace": text("The namespace of the service account, or all workloads of a namespace."),
            "trustDomain": text("The trust domain of service account or namespace, or all workloads of a trust domain."),
            "any": truth("All workloads of the cluster's own trust domain."),
            "ipBlock": text("Addresses, whoever has them, as 10.0.0.0/8."),
            "action": words("Whether they may.", &["allow", "deny"]),
            "permissions": permissions,
        }),
    )
}

fn permission() -> Value {
    let path = fields(
        "A path, in one of these ways.",
        &[],
        json!({
            "exact": text("The path."),
            "prefix": text("Whole segments at its beginning."),
            "regex": text("An expression for all of the path."),
        }),
    );
    let header = fields(
        "A header, in one of these ways.",
        &["name"],
        json!({
            "name": text("Its name."),
            "exact": text("The value."),
            "prefix": text("The beginning of the value."),
            "suffix": text("The end of the value."),
            "contains": text("A part of the value."),
            "regex": text("An expression for all of the value."),
            "present": truth("Whether it is there."),
            "invert": truth("Whether it is turned round."),
        }),
    );
    let claim = fields(
        "A claim of the token.",
        &["path"],
        json!({
            "path": texts("Where it stands."),
            "values": list("Values of it, texts, numbers or truths: one of them.", json!({ KEEP: true })),
            "words": texts("In place of values, words of a text, as of scope: one of them."),
        }),
    );
    let jwt = fields(
        "A verified token beside the identity of the caller.",
        &["issuer"],
        json!({
            "issuer": text("Who issued it."),
            "audiences": texts("For whom it is: one of them."),
            "claims": list("What it says, all of them.", claim),
        }),
    );
    fields(
        "Requests; all that it says must fit.",
        &["action"],
        json!({
            "action": words("Whether they may be sent.", &["allow", "deny"]),
            "methods": texts("One of them."),
            "paths": list("One of them.", path),
            "hosts": texts("One of them; *.example.org stands for all below."),
            "headers": list("All of them.", header),
            "jwt": jwt,
            "when": text("An expression in CEL over source, destination, request and jwt."),
        }),
    )
}

fn status() -> Value {
    let refused = json!({
        "type": "array", "maxItems": 16, "x-kubernetes-list-type": "atomic",
        "description": "Nodes that refuse it; not all of them.",
        "items": {
            "type": "object", "required": ["node", "message"],
            "properties": { "node": said("The node."), "message": said("Why.") },
        },
    });
    json!({
        "type": "object",
        "description": "Whether it can be read, and where it is in force.",
        "properties": {
            "observedGeneration": number("Which version of the spec this is about."),
            "nodes": number("Nodes that have pods in the mesh which it is for."),
            "inForce": number("Nodes of these on which it is in force."),
            "conditions": conditions("Accepted and InForce."),
            "replicas": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "description": "What each replica of the agent hears of the nodes that are connected to it.",
                "items": {
                    "type": "object", "required": ["name"],
                    "properties": {
                        "name": said("The pod of the replica."),
                        "observedGeneration": number("Which version of the spec this is about."),
                        "inForce": number("Nodes on which it is in force."),
                        "refused": refused,
                    },
                },
            },
        },
    })
}

/// What a schema cannot refuse: unknown fields, and destinations beyond the namespace.
fn strict() -> Value {
    let elsewhere = "an intention is for workloads of its own namespace; only those in `nullius-system` name more";
    let wide = format!(
        "object.metadata.namespace == '{SYSTEM_NAMESPACE}' || !has(object.spec.destination.any) \
        && (!has(object.spec.destination.namespace) \
            || object.spec.destination.namespace == object.metadata.namespace \
                && (has(object.spec.destination.serviceAccount) || has(object.spec.destination.labels)))"
    );
    let issuers =
        format!("object.metadata.namespace == '{SYSTEM_NAMESPACE}' || !has(object.spec.issuers)");
    let none_elsewhere =
        "issuers count for the whole cluster; only intentions in `nullius-system` name them";
    let mut validations = vec![
        (wide, format!("spec.destination: {elsewhere}")),
        (issuers, format!("spec.issuers: {none_elsewhere}")),
    ];
    validations.extend(nothing_unknown(&spec()));
    of_ours(NAME, PLURAL, &validations)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_intention::{Home, Intention, Origin};

    use super::*;
    use crate::manifest::schema::testing::{fields_known_to_a_reader, fields_of_a_schema};

    #[test]
    fn the_schema_has_the_fields_that_the_reader_knows_and_no_other() {
        let home = Home::of("dev.example".parse().unwrap());
        let read = fields_known_to_a_reader("Intention", &spec(), |object| {
            Intention::read(object, Origin::Cluster, &home).unwrap_err()
        });
        let schema = fields_of_a_schema(&spec());
        assert_eq!(schema.len(), 12);
        assert_eq!(read, schema);
    }

    #[test]
    fn words_of_the_schema_are_those_of_the_reader() {
        let home = Home::of("dev.example".parse().unwrap());
        let read = |spec: Value| {
            let object = json!({
                "apiVersion": nullius_model::API_VERSION, "kind": "Intention",
                "metadata": { "name": "words", "namespace": "shop" }, "spec": spec,
            });
            Intention::read(&object, Origin::Cluster, &home).is_ok()
        };
        let spec_with = |field: &str, word: &Value| {
            let mut spec = json!({
                "destination": { "serviceAccount": "orders" },
                "sources": [{ "any": true, "action": "allow" }],
            });
            match field {
                "action" => spec["sources"][0]["action"] = word.clone(),
                field => spec[field] = word.clone(),
            }
            spec
        };
        let schema = spec();
        let of_action = &schema["properties"]["sources"]["items"]["properties"]["action"];
        for (field, words) in [
            ("mode", &schema["properties"]["mode"]["enum"]),
            ("audit", &schema["properties"]["audit"]["enum"]),
            ("action", &of_action["enum"]),
        ] {
            for word in words.as_array().unwrap() {
                assert!(read(spec_with(field, word)), "{field}: {word}");
            }
            assert!(!read(spec_with(field, &json!("other"))), "{field}");
        }
    }

    #[test]
    fn the_policy_asks_about_each_mapping_where_it_stands() {
        let policy = strict();
        let rules: Vec<&str> = policy["spec"]["validations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|rule| rule["expression"].as_str().unwrap())
            .collect();
        assert_eq!(rules.len(), 14);
        let claims =
            rules.iter().find(|rule| rule.contains("['path', 'values', 'words']")).unwrap();
        assert_eq!(
            *claims,
            "(!has(object.spec.sources) || object.spec.sources.all(item0, \
             (!has(item0.permissions) || item0.permissions.all(item1, \
             (!has(item1.jwt) || (!has(item1.jwt.claims) || item1.jwt.claims.all(item2, \
             item2.all(field, field in ['path', 'values', 'words']))))))))"
        );
    }
}
