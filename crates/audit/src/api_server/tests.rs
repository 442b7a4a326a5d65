#![allow(clippy::unwrap_used, clippy::panic, reason = "test")]
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const READ_BY: &str =
    r#"RBAC: allowed by RoleBinding "read/shop" of Role "read" to ServiceAccount "page/shop""#;

/// An event in the form that an API server of 1.36 writes.
fn event(change: impl FnOnce(&mut Value)) -> Value {
    let mut event = json!({
        "level": "Metadata", "auditID": "36010e30-fc23-4e92-9bf0-01429117de39", "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/shop/configmaps?dryRun=All&fieldManager=kubectl", "verb": "create",
        "user": {
            "username": "system:serviceaccount:shop:page", "uid": "cddaea18",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/pod-name": ["page-7b9"],
                "authentication.kubernetes.io/pod-uid": ["46fc"],
            },
        },
        "sourceIPs": ["10.244.1.3"], "userAgent": "page/1",
        "objectRef": { "resource": "configmaps", "namespace": "shop", "name": "c", "apiVersion": "v1" },
        "responseStatus": { "metadata": {}, "code": 201 },
        "requestReceivedTimestamp": "2026-11-22T04:41:11.005330Z", "stageTimestamp": "2026-11-22T04:41:11.009296Z",
        "annotations": { "authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": READ_BY },
    });
    change(&mut event);
    event
}

fn list(events: &[Value]) -> Vec<u8> {
    json!({ "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": events })
        .to_string()
        .into_bytes()
}

fn one(change: impl FnOnce(&mut Value)) -> Answered {
    let mut listed = read_list(&list(&[event(change)])).unwrap();
    assert_eq!((listed.answered.len(), listed.unreadable), (1, 0), "{listed:?}");
    listed.answered.remove(0)
}

fn refused(code: u16, message: &str) -> Said {
    one(|event| event["responseStatus"] = json!({ "code": code, "message": message }))
        .said()
        .unwrap()
}

fn by(said: &Said) -> (&str, &str, &str) {
    let first = &said.remarks[0];
    (&first.policy, &first.binding, &first.check)
}

#[test]
fn a_request_is_read_with_who_what_and_by_which_permission() {
    let read = one(|_| {});
    assert_eq!(read.username, "system:serviceaccount:shop:page");
    assert_eq!(read.pod.as_deref(), Some("page-7b9"));
    assert_eq!((read.path.as_str(), read.dry_run), ("/api/v1/namespaces/shop/configmaps", true));
    assert_eq!(read.object.as_ref().unwrap().resource, "configmaps");
    assert_eq!(read.decision(), Some(Authorized::Allow));
    assert_eq!(rbac_source(&read.reason), Some(r#"RoleBinding "read/shop" of Role "read""#));
    assert!(read.said().is_none() && read.annotations.is_empty());

    let (dev, prod): (nullius_model::ClusterName, _) =
        ("dev".parse().unwrap(), "prod".parse().unwrap());
    let id = rbac_permission(&dev, &read.reason).unwrap();
    let of_another = READ_BY.replace("page/shop", "other/shop");
    assert_eq!(
        rbac_permission(&dev, &of_another),
        Some(id.clone()),
        "one permission for all its subjects"
    );
    assert_ne!(rbac_permission(&prod, &read.reason), Some(id));
    for reason in
        ["", "node authorizer", "RBAC: allowed by magic", "allowed by RoleBinding \"x\" to y"]
    {
        assert_eq!(rbac_permission(&dev, reason), None, "{reason}");
    }
}

#[test]
fn bodies_queries_and_earlier_stages_are_left_out() {
    let secret = json!({ "kind": "Secret", "data": { "password": "aHVudGVyMg==" } });
    let read = one(|event| {
        event["requestObject"] = secret.clone();
        event["responseObject"] = secret;
        event["level"] = json!("RequestResponse");
        event["requestURI"] = json!("/api/v1/namespaces/shop/pods/a/proxy/login?password=hunter2");
        event["objectRef"]["subresource"] = json!("proxy");
    });
    let all = format!("{read:?}");
    assert!(
        !all.contains("hunter2") && !all.contains("aHVudGVyMg") && !all.contains("login"),
        "{all}"
    );
    assert_eq!(read.path, "/api/v1/namespaces/shop/pods/a/proxy");
    let early = |stage| event(|event| event["stage"] = json!(stage));
    let listed = read_list(&list(&[early("RequestReceived"), early("ResponseStarted")])).unwrap();
    assert_eq!(listed, Listed::default());
}

#[test]
fn an_event_that_cannot_be_read_is_counted_and_the_others_are_kept() {
    let whole = |text: &str| {
        format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{text}]}}"#)
    };
    let good = event(|_| {}).to_string();
    let twice = good.replacen(r#""verb""#, r#""verb":"get","verb""#, 1);
    let note_twice = good.replacen(
        r#""annotations":{"#,
        r#""annotations":{"authorization.k8s.io/decision":"forbid","#,
        1,
    );
    let deep = good.replacen(
        '{',
        &format!(r#"{{"user":{}{},"#, "[".repeat(50_000), "]".repeat(50_000)),
        1,
    );
    let no_verb = event(|event| event["verb"] = json!("")).to_string();
    let stage = event(|event| event["stage"] = json!("Sometime")).to_string();
    for bad in [&twice, &note_twice, &deep, &no_verb, &stage, "7", "null", "{}", "[]"] {
        let listed = read_list(whole(&format!("{bad},{good}")).as_bytes()).unwrap();
        assert_eq!((listed.answered.len(), listed.unreadable), (1, 1), "{:.80}", bad);
    }
    // What is not looked at may be as deep as it likes.
    let stepped_over = good.replacen(
        '{',
        &format!(r#"{{"requestObject":{}1{},"#, "[".repeat(100_000), "]".repeat(100_000)),
        1,
    );
    assert_eq!(read_list(whole(&stepped_over).as_bytes()).unwrap().answered.len(), 1);
}

#[test]
fn what_is_no_list_is_refused_whole() {
    let list = |kind: &str, version: &str| {
        json!({ "kind": kind, "apiVersion": version, "items": [] }).to_string()
    };
    for bad in [
        String::new(),
        "null".to_owned(),
        "{".to_owned(),
        list("EventList", "audit.k8s.io/v1beta1"),
        list("Event", "audit.k8s.io/v1"),
        list("AdmissionReview", "admission.k8s.io/v1"),
        r#"{"kind":"EventList","kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[]}"#
            .to_owned(),
        format!(
            r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":{}"#,
            "[".repeat(1 << 20)
        ),
        format!(
            r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{}7]}}"#,
            "7,".repeat(LIST_EVENTS)
        ),
        " ".repeat(LIST_BYTES + 1),
    ] {
        assert!(read_list(bad.as_bytes()).is_err(), "{:.80}", bad);
    }
}

#[test]
fn a_denial_names_who_refused() {
    let said = one(|event| {
        let message = r#"pods is forbidden: User "system:serviceaccount:shop:page" cannot list resource "pods""#;
        event["responseStatus"] = json!({ "code": 403, "message": message });
        event["annotations"] = json!({ "authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": "" });
    })
    .said()
    .unwrap();
    assert_eq!((said.weight, by(&said).0), (Weight::Unauthorized, "Authorization"));
    assert!(said.sentence.contains("cannot list resource"));

    for (code, message, policy, binding, check) in [
        (
            422,
            r#"configmaps "c" is forbidden: ValidatingAdmissionPolicy 'team' with binding 'all' denied request: no team"#,
            "ValidatingAdmissionPolicy/team",
            "all",
            "",
        ),
        (
            403,
            r#"pods is forbidden: violates PodSecurity "restricted:v1.36": privileged (…)"#,
            "PodSecurity/restricted",
            "",
            "v1.36",
        ),
        (
            403,
            r#"pods "a" is forbidden: exceeded quota: few, requested: pods=1"#,
            "ResourceQuota/few",
            "",
            "",
        ),
        (
            400,
            r#"admission webhook "p.example.org" denied the request: no"#,
            "Webhook/p.example.org",
            "",
            "",
        ),
        (
            500,
            r#"Internal error occurred: failed calling webhook "p.example.org": failed to call"#,
            "Webhook/p.example.org",
            "",
            "could not be asked",
        ),
        (
            403,
            r#"roles "r" is forbidden: user "x" is attempting to grant more"#,
            "Admission",
            "",
            "",
        ),
        (403, "never seen before", "Admission", "", ""),
    ] {
        let said = refused(code, message);
        assert_eq!(said.weight, Weight::Refused);
        assert_eq!(by(&said), (policy, binding, check), "{message}");
        assert_eq!(said.sentence, message);
    }
}

#[test]
fn nobody_puts_words_into_the_mouth_of_a_policy_by_the_name_of_an_object() {
    let forged = r#"configmaps "x\" is forbidden: ValidatingAdmissionPolicy 'fake' with binding 'b' denied request: y" is forbidden: exceeded quota: real, requested"#;
    assert_eq!(by(&refused(403, forged)).0, "ResourceQuota/real");
    let in_words = r#"pods "a" is forbidden: nobody said admission webhook "w" denied the request: ValidatingAdmissionPolicy 'fake' denied request: x"#;
    assert_eq!(by(&refused(403, in_words)).0, "Admission");
    // Neither does a message whose quotes do not end.
    assert_eq!(by(&refused(403, r#"pods "a\"#)).0, "Admission");
}

#[test]
fn an_answer_that_no_policy_gave_is_no_word_of_a_policy() {
    for (code, message) in [
        (404, r#"pods "a" not found"#),
        (409, r#"pods "a" already exists"#),
        (422, r#"Pod "a" is invalid: spec: ValidatingAdmissionPolicy 'x' denied request: y"#),
        (500, "Internal error occurred: disk"),
        (200, r#"admission webhook "w" denied the request: no"#),
    ] {
        let read =
            one(|event| event["responseStatus"] = json!({ "code": code, "message": message }));
        assert_eq!(read.said(), None, "{message}");
    }
}

#[test]
fn what_the_webhook_of_ours_decided_is_told_by_it_alone() {
    let read = one(|event| {
        let message =
            r#"admission webhook "validate-fail.admission.nullius.dev" denied the request: no"#;
        event["responseStatus"] = json!({ "code": 403, "message": message });
        event["annotations"]["validate-fail.admission.nullius.dev/team"] = json!("noted");
    });
    assert_eq!(read.said(), None);
    // Another webhook cannot pass for it by its words.
    let said = refused(
        403,
        r#"admission webhook "evil.org" denied the request: validate-fail.admission.nullius.dev"#,
    );
    assert_eq!(by(&said).0, "Webhook/evil.org");
}

#[test]
fn policies_that_only_tell_the_audit_are_heard() {
    let failures = json!([{
        "message": "no owner", "policy": "owner", "binding": "all", "expressionIndex": 1, "validationActions": ["Audit"],
    }]);
    let said = one(|event| {
        let notes = &mut event["annotations"];
        notes["validation.policy.admission.k8s.io/validation_failure"] =
            json!(failures.to_string());
        notes["pod-security.kubernetes.io/audit-violations"] =
            json!("would violate PodSecurity \"restricted:latest\": x");
        notes["pod-security.kubernetes.io/enforce-policy"] = json!("privileged:latest");
        notes["failed-open.validating.webhook.admission.k8s.io/round_0_index_1"] =
            json!("w.example.org");
        notes["k8s.io/deprecated"] = json!("true");
        notes["owner/who"] = json!("ada");
    })
    .said()
    .unwrap();
    assert_eq!(said.weight, Weight::Noted);
    let told: Vec<(&str, &str)> =
        said.remarks.iter().map(|remark| (remark.policy.as_str(), remark.check.as_str())).collect();
    assert_eq!(
        told,
        [
            ("Webhook/w.example.org", "could not be asked, and was ignored"),
            ("Admission/owner", "who"),
            ("PodSecurity", ""),
            ("ValidatingAdmissionPolicy/owner", "validation 2"),
        ]
    );
    let cut = one(|event| {
        event["annotations"]["validation.policy.admission.k8s.io/validation_failure"] =
            json!("[{\"mess")
    });
    assert_eq!(by(&cut.said().unwrap()).0, "ValidatingAdmissionPolicy");
}

#[test]
fn who_was_never_proven_was_denied_and_what_was_never_decided_was_not() {
    let unproven = one(|event| {
        event["user"] = json!({});
        event["responseStatus"] = json!({ "code": 401 });
        event["annotations"] = Value::Null;
    });
    assert_eq!((unproven.decision(), unproven.said()), (Some(Authorized::Forbid), None));
    let crowded = one(|event| {
        event["responseStatus"] = json!({ "code": 429 });
        event.as_object_mut().unwrap().remove("annotations");
    });
    assert_eq!(crowded.decision(), None);
    let unknown =
        one(|event| event["annotations"]["authorization.k8s.io/decision"] = json!("perhaps"));
    assert_eq!(
        unknown.decision(),
        Some(Authorized::Forbid),
        "a word that nobody knows is no permission"
    );
}

#[test]
fn who_acted_as_whom_is_read_and_who_may_not_was_denied() {
    let acting = one(|event| {
        event["impersonatedUser"] =
            json!({ "username": "robot", "groups": ["system:masters", "system:authenticated"] });
    });
    assert_eq!(acting.username, "system:serviceaccount:shop:page");
    assert_eq!(acting.impersonated.as_deref(), Some("robot"));
    assert_eq!(acting.impersonated_groups, ["system:masters", "system:authenticated"]);
    assert_eq!(acting.groups, ["system:serviceaccounts", "system:authenticated"]);
    // An API server asks that first, and decides nothing of the request when the answer is no.
    let message = r#"users "robot" is forbidden: User "ada" cannot impersonate resource "users" in API group "" at the cluster scope"#;
    let refused = one(|event| {
        event["annotations"] = Value::Null;
        event["responseStatus"] = json!({ "code": 403, "message": message });
    });
    assert!(refused.is_refused_impersonation());
    assert_eq!(refused.decision(), Some(Authorized::Forbid));
    let said = refused.said().unwrap();
    assert_eq!((said.weight, by(&said).0), (Weight::Unauthorized, "Authorization"));
    assert_eq!(said.sentence, message);
}

#[test]
fn long_texts_are_cut_between_letters() {
    let read = one(|event| event["userAgent"] = json!("é".repeat(100_000)));
    assert_eq!(read.user_agent.chars().count(), 4_096);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_list(&bytes);
        let before = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":["#.as_slice();
        let _ = read_list(&[before, &bytes, b"]}"].concat());
    }

    #[test]
    fn no_message_makes_the_reader_of_words_panic(
        before in "(pods|é|admission webhook|Internal error occurred: failed calling webhook|)[ \"\\\\aé]{0,12}",
        words in "( is forbidden: )?(ValidatingAdmissionPolicy '|violates PodSecurity \"|exceeded quota: )?[ \"'\\\\,:aé]{0,16}",
        code in 0u16..600,
    ) {
        let message = format!("{before}{words}");
        let read = one(|event| event["responseStatus"] = json!({ "code": code, "message": message }));
        if let Some(said) = read.said() {
            prop_assert!(code >= 400 && !said.remarks.is_empty());
        }
    }
}
