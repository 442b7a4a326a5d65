//! Which version of Kubernetes has which library, and what libraries need that the conformance data does not ask.

use nullius_cel::{
    Activation, Budget, Dialect, Env, EvalError, LazyFields, Type, Value, Version,
    authz::{AUTHORIZER, AccessCheck, Authorizer, AuthzValue, Subject, Target, Verdict},
    object::Objects,
};

#[test]
fn each_library_comes_with_its_version() {
    let since = [
        (27, "url('https://a.b').getHost() == 'a.b'"),
        (27, "'abc'.find('b') == 'b'"),
        (27, "[1, 2].sum() == 3"),
        (28, "1 < 1.5"),
        (28, "{'a': 1}.?a.hasValue()"),
        (28, "quantity('1Mi').isInteger()"),
        (29, "'%d'.format([1]) == '1'"),
        (29, "sets.contains([1], [1])"),
        (30, "ip('1.2.3.4').family() == 4"),
        (30, "cidr('10.0.0.0/8').containsIP('10.1.2.3')"),
        (31, "!format.dns1123Label().validate('a').hasValue()"),
        (32, "[1].all(i, v, i == 0)"),
        (33, "semver('1.2.3').major() == 1"),
        (34, "[2, 1].sort() == [1, 2]"),
        (34, "[2, 1].sortBy(x, -x) == [2, 1]"),
        (37, "[1, 2].includes(2)"),
    ];
    for (first, source) in since {
        for minor in 27..=37 {
            let compiled = Env::kubernetes(Version::minor(minor)).compile(source);
            assert_eq!(compiled.is_ok(), minor >= first, "`{source}` in 1.{minor}");
        }
    }
    assert!(Env::kubernetes(Version::LATEST).compile("cel.bind(x, 1, x)").is_err());
    assert!(Env::spec().compile("cel.bind(x, 1, x)").is_ok());
    assert_eq!("k8s-1.36".parse(), Ok(Dialect::Kubernetes(Version::minor(36))));
    assert!("k8s-1.99".parse::<Dialect>().is_err());
}

#[test]
fn results_have_their_exact_type() {
    let env = Env::kubernetes(Version::LATEST).with_variable("object", Type::Dyn);
    for (source, of) in [
        ("object.ok", "dyn"),
        ("object.ok == true", "bool"),
        ("[1, 2]", "list(int)"),
        ("{'a': duration('1s')}", "map(string, google.protobuf.Duration)"),
        ("optional.of('a')", "optional_type(string)"),
    ] {
        assert_eq!(env.compile(source).unwrap().result_type().declared_name(), of);
    }
}

#[test]
fn the_ends_of_lists_and_lists_of_optionals() {
    let env = Env::kubernetes(Version::minor(28)).with_variable("none", Type::list(Type::Dyn));
    let activation = Activation::new().with("none", Value::list(Vec::new()));
    for source in [
        "[1, 2, 3].first() == optional.of(1)",
        "[1, 2, 3].last().value() == 3",
        "!none.first().hasValue() && !none.last().hasValue()",
        "[optional.of(1), optional.none(), optional.of(3)].unwrapOpt() == [1, 3]",
        "optional.unwrap([optional.none(), optional.of('a')]) == ['a']",
        "optional.unwrap(none) == []",
    ] {
        let program = env.compile(source).unwrap();
        let outcome = program.evaluate(&activation, Budget::default());
        assert!(matches!(outcome.result, Ok(Value::Bool(true))), "`{source}` {:?}", outcome.result);
    }
    // The first item tells whether the function is the one that is meant.
    for (source, message) in [
        ("[dyn(1)].unwrapOpt()", "no such overload: unwrapOpt(list)"),
        ("[dyn(optional.of(1)), dyn(1)].unwrapOpt()", "value 1 is not optional"),
    ] {
        let program = env.compile(source).unwrap();
        let told = program.evaluate(&activation, Budget::default()).result.unwrap_err();
        assert_eq!(told.to_string(), message, "`{source}`");
    }
    assert!(env.compile("[1].unwrapOpt()").is_err());
    for minor in 27..=37 {
        let compiled = Env::kubernetes(Version::minor(minor)).compile("[1].first().hasValue()");
        assert_eq!(compiled.is_ok(), minor >= 28, "1.{minor}");
    }
}

#[test]
fn values_of_extensions_are_compared_with_their_like_and_with_null() {
    let env = Env::kubernetes(Version::LATEST);
    let activation = Activation::new();
    for extension in [
        "ip('1.2.3.4')",
        "cidr('10.0.0.0/8')",
        "quantity('1')",
        "semver('1.2.3')",
        "url('https://a.b')",
        "format.named('dns1123Label').value()",
    ] {
        for (source, expected) in [
            (format!("{extension} == dyn('a')"), Err("no such overload")),
            (
                format!("optional.of(dyn({extension})) == optional.of(dyn('a'))"),
                Err("no such overload"),
            ),
            (format!("dyn('a') == {extension}"), Ok(false)),
            (format!("{extension} != dyn('a')"), Ok(true)),
            (format!("dyn({extension}) == null"), Ok(false)),
            (format!("{extension} == {extension}"), Ok(true)),
            (format!("dyn({extension}) in ['a'] + ['b']"), Ok(false)),
            // An error is not false, so that cel-go goes on to the next item.
            (format!("[dyn({extension})] == [dyn('a')]"), Ok(true)),
            (format!("[dyn('a')] == [dyn({extension})]"), Ok(false)),
            (format!("{{'k': dyn({extension})}} == {{'k': dyn('a')}}"), Ok(true)),
        ] {
            let program = env.compile(&source).unwrap_or_else(|told| panic!("`{source}` {told:?}"));
            let outcome = program.evaluate(&activation, Budget::default());
            let found = outcome.result.map_err(|told| told.to_string());
            match (&found, expected) {
                (Ok(Value::Bool(found)), Ok(expected)) => {
                    assert_eq!(*found, expected, "`{source}`")
                }
                (Err(found), Err(expected)) => assert_eq!(found, expected, "`{source}`"),
                _ => panic!("`{source}` {found:?}"),
            }
        }
    }
}

struct Answers(Vec<(AccessCheck, Verdict)>);

impl Authorizer for Answers {
    fn answer(&self, check: &AccessCheck) -> Option<Verdict> {
        self.0.iter().find(|(known, _)| known == check).map(|(_, verdict)| verdict.clone())
    }
}

#[test]
fn an_authorization_check_asks_for_its_answer() {
    let env = Env::kubernetes(Version::LATEST).with_variable("authorizer", AUTHORIZER);
    let source = "authorizer.serviceAccount('shop', 'web').group('apps').resource('deployments').namespace('shop').check('get').allowed() || false";
    let program = env.compile(source).unwrap();
    let activation = Activation::new().with("authorizer", AuthzValue::authorizer());
    let outcome = program.evaluate(&activation, Budget::default());
    let Err(EvalError::Needs(question)) = outcome.result else { panic!("{:?}", outcome.result) };
    assert_eq!(question.verb, "get");
    assert_eq!(
        question.subject,
        Subject::ServiceAccount { namespace: "shop".to_owned(), name: "web".to_owned() }
    );
    assert!(
        matches!(&question.target, Target::Resource(target) if target.resource == "deployments")
    );
    let answers = Answers(vec![(*question, Verdict::Allow { reason: "because".to_owned() })]);
    let activation = activation.with_authorizer(&answers);
    let outcome = program.evaluate(&activation, Budget::default());
    assert!(matches!(outcome.result, Ok(Value::Bool(true))));
    assert_eq!(outcome.cost, 350_006);
}

#[test]
fn mutations_construct_objects() {
    let env = Env::kubernetes(Version::LATEST).with_mutation();
    let program = env.compile("Object{spec: Object.spec{replicas: 3}}").unwrap();
    assert_eq!(program.result_type().declared_name(), "Object");
    let activation = Activation::new();
    let outcome = program.evaluate(&activation, Budget::default());
    let Ok(Value::Object(object)) = outcome.result else { panic!("an object") };
    assert_eq!(object.check_paths(), Ok(()));
    let wrong = env.compile("Object{spec: Object.status{replicas: 3}}").unwrap();
    let outcome = wrong.evaluate(&activation, Budget::default());
    let Ok(Value::Object(object)) = outcome.result else { panic!("an object") };
    assert!(object.check_paths().unwrap_err().contains("expected \"Object.spec\""));
    let patch = "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'x'}]";
    assert_eq!(env.compile(patch).unwrap().result_type().declared_name(), "list(JSONPatch)");
    assert!(env.compile("JSONPatch{op: 1}").is_err());
    assert!(env.compile("JSONPatch{nope: 'x'}").is_err());
}

#[test]
fn literal_patterns_are_checked_before_they_run() {
    let env = Env::kubernetes(Version::minor(36)).with_variable("x", Type::Dyn);
    for (source, column, message) in [
        (
            "'%d'.format([1.5])",
            14,
            "error during formatting: decimal clause can only be used on integers, was given double",
        ),
        (
            "'%a'.format([1])",
            12,
            "could not parse formatting clause: unrecognized formatting clause \"a\"",
        ),
        ("'%s %s'.format([1])", 15, "index 1 out of range"),
        (
            "'%s'.format([1,2])",
            12,
            "too many arguments supplied to string.format (expected 1, got 2)",
        ),
        ("'%'.format([1])", 11, "unexpected end of string"),
    ] {
        let errors = env.compile(source).unwrap_err();
        assert_eq!((errors[0].column, errors[0].message.as_str()), (column, message), "{source}");
    }
    assert!(env.compile("'%d %s'.format([x, x])").is_ok());
    for source in ["int('x') == x", "x[null]", "x[[1]]", "'a'.matches('(')", "duration('x') == x"] {
        assert!(env.compile(source).is_err(), "{source}");
    }
    assert!(Env::kubernetes(Version::minor(28)).compile("'a'.format([1])").is_err());
}

struct Asked(std::cell::Cell<u32>);

impl LazyFields for Asked {
    fn field<'f>(&'f self, name: &str) -> Option<Result<Value<'f>, EvalError>> {
        self.0.set(self.0.get() + 1);
        match name {
            "replicas" => Some(Ok(Value::Int(3))),
            "broken" => Some(Err(EvalError::Failed("division by zero".to_owned()))),
            _ => None,
        }
    }
}

#[test]
fn lazy_fields_are_made_when_they_are_asked_for() {
    let mut objects = Objects::default();
    let fields = [("replicas".to_owned(), Type::Int), ("broken".to_owned(), Type::Bool)];
    objects.declare("variables", fields);
    let env = Env::kubernetes(Version::LATEST)
        .with_objects(objects)
        .with_variable("variables", Type::Object("variables".into()));
    let evaluated = |source: &str| {
        let asked = Asked(std::cell::Cell::new(0));
        let program = env.compile(source).unwrap();
        let activation = Activation::new().with_lazy("variables", &asked);
        let outcome = program.evaluate(&activation, Budget::default());
        (outcome.result.map(|value| format!("{value:?}")), outcome.cost, asked.0.get())
    };
    assert_eq!(evaluated("variables.replicas > 2"), (Ok("Bool(true)".to_owned()), 3, 1));
    assert_eq!(evaluated("true || variables.broken"), (Ok("Bool(true)".to_owned()), 0, 0));
    assert_eq!(evaluated("variables.broken || true"), (Ok("Bool(true)".to_owned()), 2, 1));
    assert_eq!(evaluated("variables.broken").0.unwrap_err().to_string(), "division by zero");
    assert!(env.compile("variables.nope").is_err());
    assert!(env.compile("variables.replicas == 'x'").is_err());
}
