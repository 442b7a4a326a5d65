//! Our kind `WorkloadIdentity` as a cluster knows it, who writes it, and the policy that refuses what a schema cannot.

use serde_json::{Value, json};

use super::{
    guards::binding_of,
    schema::{
        Kind, condition_path, conditions, fields, for_people, list, nothing_unknown, number,
        of_ours, text, texts, truth,
    },
};

const NAME: &str = "nullius-workload-identities";
const PLURAL: &str = "workloadidentities";

pub(super) fn objects() -> Vec<Value> {
    let policy = of_ours(NAME, PLURAL, &nothing_unknown(&spec()));
    let binding = binding_of(&policy);
    let [readers, writers] = for_people(PLURAL);
    vec![definition(), policy, binding, readers, writers]
}

fn definition() -> Value {
    let columns = json!([
        { "name": "Path", "type": "string", "jsonPath": ".spec.path" },
        { "name": "Accepted", "type": "string", "jsonPath": condition_path("Accepted") },
        { "name": "Pods", "type": "integer", "jsonPath": ".status.pods" },
        { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
    ]);
    Kind {
        name: "WorkloadIdentity",
        plural: PLURAL,
        scope: "Namespaced",
        short_names: &[],
        categories: &["nullius"],
        about: "An identity of pods beside their default one, or more about that; or one of processes on machines outside of the cluster.",
        columns,
        spec: spec(),
        status: status(),
    }
    .definition()
}

fn spec() -> Value {
    let ttl = |about: &str| json!({ "type": "string", "pattern": "^[0-9]+[smhd]$", "description": about });
    let user = |about: &str| json!({ "type": "integer", "format": "int64", "minimum": 0.0, "maximum": f64::from(u32::MAX), "description": about });
    let pods = fields(
        "Pods of this namespace; all that it says must hold.",
        &[],
        json!({
            "any": truth("All pods of the namespace."),
            "serviceAccounts": texts("One of them."),
            "matchLabels": {
                "type": "object", "minProperties": 1, "description": "Labels that the pods have, all of them.",
                "additionalProperties": { "type": "string" },
            },
            "owner": fields(
                "The pods' controller.",
                &["kind", "name"],
                json!({ "kind": text("Its kind, as StatefulSet."), "name": text("Its name.") }),
            ),
        }),
    );
    fields(
        "Who has it, and what it says.",
        &[],
        json!({
            "selector": pods,
            "machines": list(
                "Machines outside of the cluster, instead of pods: their names.",
                json!({ "type": "string", "minLength": 1, "maxLength": 253 }),
            ),
            "containers": fields(
                "Containers of the pods; without it all of them.",
                &[],
                json!({
                    "names": texts("Names of containers: one of them."),
                    "images": list("Digests of images: one of them.", json!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" })),
                }),
            ),
            "unix": fields(
                "Processes of the pods, without it all of them; of the machines, without it none.",
                &[],
                json!({
                    "uid": user("The user, as the host counts them."),
                    "gid": user("The group, as the host counts them."),
                    "path": text("The executable, as the machine's own files have it; on machines alone."),
                    "sha256": { "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "The digest of the executable." },
                }),
            ),
            "path": text("The path of the ID, with {namespace}, {serviceAccount}, {pod} and {container}, or {namespace} and {machine}; without it that of the pod's default identity."),
            "x509": fields(
                "Certificates.",
                &[],
                json!({
                    "ttl": ttl("How long one lives, from 2m to 24h."),
                    "dnsNames": texts("Names of Services of this namespace."),
                }),
            ),
            "jwt": fields(
                "Tokens.",
                &[],
                json!({
                    "ttl": ttl("How long one lives, from 30s to 1h."),
                    "audiences": texts("Whom they may be for; without it anybody."),
                }),
            ),
            "hint": text("What the identity is for, where a workload has several."),
            "federatesWith": texts("Trust domains whose bundles the workload is given."),
        }),
    )
}

fn status() -> Value {
    json!({
        "type": "object",
        "description": "Whether it can be read, and how many pods or machines have it.",
        "properties": {
            "observedGeneration": number("Which version of the spec this is about."),
            "pods": number("Pods with an identity by it; of machines how many of them."),
            "conditions": conditions("Accepted."),
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_registration::WorkloadIdentity;

    use super::*;
    use crate::manifest::schema::testing::{fields_known_to_a_reader, fields_of_a_schema};

    #[test]
    fn the_schema_has_the_fields_that_the_reader_knows_and_no_other() {
        let read = fields_known_to_a_reader("WorkloadIdentity", &spec(), |object| {
            WorkloadIdentity::read(object).unwrap_err()
        });
        let schema = fields_of_a_schema(&spec());
        assert_eq!(schema.len(), 7);
        assert_eq!(read, schema);
    }
}
