#![allow(clippy::unwrap_used, reason = "test")]
use super::*;

fn found(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    objects(text, |found| {
        all.push(match found {
            Found::Object(object) => format!(
                "{} {} {}/{} at {}",
                object.api_version,
                object.kind,
                object.namespace(),
                object.name(),
                object.node().line
            ),
            Found::Other(place) => format!("other at {}", place.line),
            Found::Fault(fault) => format!(
                "{}:{}: {}{}",
                fault.place.line,
                fault.place.column,
                fault.message,
                fault.next.map(|next| format!(" [{next}]")).unwrap_or_default()
            ),
        });
    });
    all
}

#[test]
fn a_broken_document_does_not_hide_the_others() {
    let text = "# one\nkind: Pod\napiVersion: v1\nmetadata: {name: a, namespace: ns}\n--- # two\na: [\n---\n\n---\nkind: Pod\napiVersion: v1\nmetadata:\n  generateName: b-\n  generateName: c-\n---\nkind: Service\napiVersion: v1\n";
    let all = found(text);
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!(all[0], "v1 Pod ns/a at 2");
    assert!(all[1].starts_with("7:") || all[1].starts_with("6:"), "{}", all[1]);
    assert_eq!(all[2], "14:3: the key `generateName` stands twice");
    assert_eq!(all[3], "v1 Service / at 16");
}

#[test]
fn lists_are_taken_apart() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- apiVersion: v1\n  kind: PodList\n  items:\n  - metadata: {name: b}\n  - 7\n- {kind: Pod}\n- {}\n";
    assert_eq!(
        found(text),
        [
            "v1 Pod /a at 4",
            "v1 Pod /b at 8",
            "9:5: an item of a list is no object: it has no `kind`",
            "10:3: `Pod` has no `apiVersion` [add `apiVersion`; kubectl refuses the object without it]",
            "11:3: an item of a list is no object: it has no `kind`",
        ]
    );
}

#[test]
fn json_may_stand_one_after_another() {
    let text = "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"}}\n{\"apiVersion\":\"v1\",\n\"kind\":\"Pod\",\"metadata\":{\"name\":\"b\"}}\n";
    assert_eq!(found(text), ["v1 Pod /a at 1", "v1 Pod /b at 2"]);
    let twice = "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"kind\":\"Job\"}";
    assert_eq!(found(twice), ["1:33: the key `kind` stands twice"]);
}

#[test]
fn a_broken_value_of_a_json_stream_does_not_hide_the_others() {
    let pod = |name: &str| {
        format!("{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"{name}\"}}}}\n")
    };
    let twice = "{\"apiVersion\":\"v1\",\n\"kind\":\"Pod\",\"kind\":\"Job\"}\n";
    assert_eq!(
        found(&format!("{}{twice}{}", pod("a"), pod("b"))),
        ["v1 Pod /a at 1", "3:14: the key `kind` stands twice", "v1 Pod /b at 4"]
    );
    // One that is cut off ends where the next one begins a line; what is text in it does not count.
    let cut = "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"a\":{\"b\":\"}}\\\"\"\n";
    let told = found(&format!("{}{cut}{}", pod("a"), pod("b")));
    assert_eq!(
        (told.len(), told[0].as_str(), told[2].as_str()),
        (3, "v1 Pod /a at 1", "v1 Pod /b at 3")
    );
    assert!(told[1].starts_with("2:") || told[1].starts_with("3:"), "{}", told[1]);
    let open = found(&format!("{}{{\"kind\":\"Po\n{}", pod("a"), pod("b")));
    assert_eq!((open.len(), open[2].as_str()), (3, "v1 Pod /b at 3"));
    // Behind a value stands what is none: no stream, told as the YAML that it is not.
    assert_eq!(found("{\"a\": 1}\nkind: Pod\n").len(), 1);
    assert_eq!(found("{{ include \"a\" . }}\n{{ include \"b\" . }}\n").len(), 1);
}

#[test]
fn an_object_that_does_not_say_what_it_is_is_told() {
    let next = |key: &str| format!("{key}`; kubectl refuses the object without it]");
    let add = next("[add `kind");
    assert_eq!(
        found("apiVersion: v1\nmetadata: {name: a}\n"),
        [format!("1:1: an object has no `kind` {add}")]
    );
    assert_eq!(
        found("apiVersion: v1\nspec: {}\n"),
        [format!("1:1: an object has no `kind` {add}")]
    );
    assert_eq!(
        found("apiVersion: v1\nKind: Pod\n"),
        [format!("2:1: an object has no `kind`, but `Kind` {}", next("[write `kind"))]
    );
    for text in
        ["Kind: Pod\nmetadata: {}\n", "ApiVersion: v1\nkidn: Pod\n", "kind:\napiVersion: v1\n"]
    {
        assert!(found(text)[0].contains("kind"), "{:?}", found(text));
        assert!(!found(text)[0].starts_with("other"), "{text}");
    }
    assert_eq!(
        found("apiversion: v1\nkind: Pod\n"),
        [format!(
            "1:1: `Pod` has no `apiVersion`, but `apiversion` {}",
            next("[write `apiVersion")
        )]
    );
    assert_eq!(
        found("apiVersion: 1\nkind: Pod\n"),
        [
            "1:1: `apiVersion` of `Pod` is no text [say what the object is; kubectl refuses it otherwise]"
        ]
    );
    // Charts, their values, compositions, workflows, settings of provisioning.
    for other in [
        "apiVersion: v2\nname: chart\nversion: 1.0.0\nkubeVersion: '>=1.30'\n",
        "replicas: 3\nmetadata: {labels: {}}\nspec: {}\n",
        "services: {web: {image: a}}\nversion: '3'\n",
        "name: ci\non: push\njobs: {}\n",
        "apiVersion: 1\ndatasources: []\n",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nresources: [a.yaml]\n",
        "openapi: 3.1.0\ninfo: {title: a, version: '1'}\n",
    ] {
        assert_eq!(found(other), ["other at 1"], "{other}");
    }
}

#[test]
fn other_documents_are_no_faults_and_templates_are_explained() {
    assert_eq!(found("replicas: 3\n"), ["other at 1"]);
    assert_eq!(found("\u{feff}kind: Pod\r\napiVersion: v1\r\n"), ["v1 Pod / at 1"]);
    let template = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Release.Name }}\n";
    let told = found(template);
    assert!(
        told[0].contains("this is a template") && told[0].contains("helm template CHART"),
        "{told:?}"
    );
    let more = format!("{template}---\nkind: Pod\napiVersion: v1\n---\n{template}");
    assert_eq!(found(&more).len(), 2);
    assert_eq!(found(""), [""; 0]);
}

#[test]
fn a_name_that_yaml_takes_for_something_else_is_told() {
    assert_eq!(
        found("kind: Pod\napiVersion: v1\nmetadata:\n  name: x\n  namespace: no\n"),
        [
            "5:3: `metadata.namespace` of `Pod` is no text [put it in quotes: YAML takes words such as `no` and numbers for something else]"
        ]
    );
}

#[test]
fn objects_in_what_is_no_list_of_objects_are_told() {
    let stream = "objects stand in a list without a kind [write them as documents with `---` between them, or below `items` of a `List`]";
    assert_eq!(
        found("- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n"),
        [format!("1:1: {stream}")]
    );
    assert_eq!(found("- {op: remove, path: /spec/replicas}\n- 7\n"), ["other at 1"]);
    let told = |text: &str| found(text).join("; ");
    let next = "[write every object as an item of the list, after a `-`]";
    let list = "apiVersion: v1\nkind: List\n";
    assert_eq!(
        told(&format!("{list}items: {{apiVersion: v1, kind: Pod}}\n")),
        format!("3:1: `items` of `List` must be a list {next}")
    );
    assert_eq!(told(list), format!("1:1: `List` has no `items` {next}"));
    assert_eq!(
        told("apiVersion: v1\nkind: PodList\nitems: 7\n"),
        format!("3:1: `items` of `PodList` must be a list {next}")
    );
    assert_eq!(found(&format!("{list}items: []\n")), [""; 0]);
    assert_eq!(found(&format!("{list}items: null\n")), [""; 0]);
    assert_eq!(
        found("apiVersion: example.com/v1\nkind: AllowList\nitems: {a: b}\n"),
        ["example.com/v1 AllowList / at 1"]
    );
}

#[test]
fn an_object_that_no_api_server_reads_is_told() {
    let with = |length: usize| {
        let filler = "x".repeat(length);
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{a: {filler}}}\n")
    };
    assert_eq!(found(&with(3_000_000)).len(), 1);
    let told = found(&format!("{}---\n{}", with(3_200_000), with(1)));
    assert!(told[0].contains("longer than 3145728 bytes"), "{}", &told[0][..80]);
    assert_eq!(told.len(), 2);
}
