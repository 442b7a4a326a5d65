//! Our kind `Machine` as a cluster knows it, and the policy that refuses what a schema cannot.
//!
//! It belongs to the cluster, and so to its administrators: no role that people of a namespace have writes it.

use serde_json::{Value, json};

use super::{
    guards::binding_of,
    schema::{
        Kind, condition_path, conditions, fields, list, nothing_unknown, number, of_ours, said,
        text,
    },
};

const NAME: &str = "nullius-machines";
const PLURAL: &str = "machines";

pub(super) fn objects() -> Vec<Value> {
    let policy = of_ours(NAME, PLURAL, &nothing_unknown(&spec()));
    let binding = binding_of(&policy);
    vec![definition(), policy, binding]
}

fn definition() -> Value {
    let columns = json!([
        { "name": "Accepted", "type": "string", "jsonPath": condition_path("Accepted") },
        { "name": "Joined", "type": "date", "jsonPath": ".status.joinedAt" },
        { "name": "Key", "type": "string", "jsonPath": ".status.key", "priority": 1 },
        { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
    ]);
    Kind {
        name: "Machine",
        plural: PLURAL,
        scope: "Cluster",
        short_names: &[],
        categories: &["nullius"],
        about: "A machine outside of the cluster whose processes have identities.",
        columns,
        spec: spec(),
        status: status(),
    }
    .definition()
}

fn spec() -> Value {
    let digest = json!({ "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "The SHA-256 of the token." });
    let namespace = json!({ "type": "string", "minLength": 1, "maxLength": 63 });
    fields(
        "How it proves itself, and for whom.",
        &[],
        json!({
            "namespaces": list("Namespaces whose WorkloadIdentity objects may be for its processes; without it none.", namespace),
            "joinToken": fields(
                "The token with which it joins once; another one here ends what it joined with.",
                &["sha256", "expires"],
                json!({
                    "sha256": digest,
                    "expires": { "type": "string", "format": "date-time", "description": "It joins nobody from then on." },
                }),
            ),
            "x509pop": fields(
                "Certificates by which it proves itself.",
                &["caBundle", "name"],
                json!({
                    "caBundle": text("Who must stand behind them, in PEM."),
                    "name": text("The DNS or URI name that they must have, as it stands."),
                }),
            ),
        }),
    )
}

fn status() -> Value {
    json!({
        "type": "object",
        "description": "Whether it can be read, and the key that joined.",
        "properties": {
            "observedGeneration": number("Which version of the spec this is about."),
            "key": said("The SHA-256 of the key that joined."),
            "publicKey": said("That key, a SubjectPublicKeyInfo in base64."),
            "token": said("The SHA-256 of the token with which it joined: no other token's key counts."),
            "joinedAt": { "type": "string", "format": "date-time", "description": "When it joined." },
            "conditions": conditions("Accepted."),
        },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use nullius_registration::Machine;

    use super::*;
    use crate::manifest::schema::testing::{fields_known_to_a_reader, fields_of_a_schema};

    #[test]
    fn the_schema_has_the_fields_that_the_reader_knows_and_no_other() {
        let read = fields_known_to_a_reader("Machine", &spec(), |object| {
            Machine::read(object).unwrap_err()
        });
        let schema = fields_of_a_schema(&spec());
        assert_eq!(schema.len(), 3);
        assert_eq!(read, schema);
    }

    #[test]
    fn people_of_a_namespace_do_not_write_it() {
        let kinds: Vec<_> = objects().iter().map(|it| it["kind"].clone()).collect();
        assert!(!kinds.iter().any(|kind| kind == "ClusterRole"), "{kinds:?}");
        assert_eq!(definition()["spec"]["scope"], "Cluster");
    }
}
