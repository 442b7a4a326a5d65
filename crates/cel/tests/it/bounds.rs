//! What an expression cannot do: overflow a stack, outrun its budget, its deadline or its memory.

use std::{cell::Cell, thread};

use nullius_cel::{Activation, Budget, Env, EvalError, Value, Version};

fn env() -> Env {
    Env::kubernetes(Version::LATEST)
}

/// Compiles, runs and drops on the stack that a thread has by default.
fn on_a_small_stack(source: String) -> Result<String, String> {
    thread::Builder::new()
        .stack_size(2 * 1024 * 1024)
        .spawn(move || {
            let program = env().compile(&source).map_err(|errors| errors[0].message.clone())?;
            let activation = Activation::new();
            let outcome = program.evaluate(&activation, Budget::default());
            match outcome.result {
                Ok(value) => Ok(format!("{value:?}").chars().take(40).collect()),
                Err(error) => Ok(format!("err {error}")),
            }
        })
        .expect("a thread")
        .join()
        .expect("no panic and no overflow")
}

fn repeated(start: &str, part: &str, length: usize) -> String {
    let mut source = start.to_owned();
    while source.len() + part.len() <= length {
        source.push_str(part);
    }
    source
}

const LONG: usize = 16 * 1024;

#[test]
fn chains_as_long_as_source_may_be_run_on_a_small_stack() {
    let sum = on_a_small_stack(repeated("1", "+1", LONG)).expect("compiles");
    assert_eq!(sum, "Int(8192)");
    for (start, part) in [
        ("true", "&&true"),
        ("false", "||false"),
        ("'a'", ".lowerAscii()"),
        ("dyn({'a': 1})", ".a"),
        ("dyn([1])", "[0]"),
        ("[1]", ".map(x,x)"),
        ("dyn(true)", "==true"),
        ("optional.of(1)", ".optMap(x,x)"),
    ] {
        let outcome = on_a_small_stack(repeated(start, part, LONG));
        assert!(outcome.is_ok(), "{start}{part}…: {outcome:?}");
    }
}

#[test]
fn what_is_longer_or_deeper_is_refused_with_its_position() {
    let long = env().compile(&repeated("1", "+1", 32 * 1024)).unwrap_err();
    assert!(long[0].message.contains("more than the limit of 16384"), "{}", long[0].message);
    assert_eq!((long[0].line, long[0].column), (1, 1));
    for (open, close) in [("(", ")"), ("[", "]"), ("{'a':", "}"), ("!(", ")"), ("size([", "])")] {
        let depth = LONG / (open.len() + close.len()) - 1;
        let source = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let told = env().compile(&source).unwrap_err();
        assert_eq!(told[0].message, "expression recursion limit exceeded: 250", "{open}");
        assert!(on_a_small_stack(source).is_err(), "{open}");
    }
    assert!(on_a_small_stack(repeated("true", "?1:true", LONG)).is_err());
    assert!(on_a_small_stack("(".repeat(LONG)).is_err());
    assert!(on_a_small_stack("-".repeat(LONG)).is_err());
    assert!(on_a_small_stack("'".repeat(LONG - 1)).is_err());
    assert!(on_a_small_stack("a?b:".repeat(LONG / 4)).is_err());
}

#[test]
fn errors_name_line_and_column_in_characters() {
    let errors = env().compile("true &&\n  'é' + 1 == 'x'").unwrap_err();
    assert_eq!((errors[0].line, errors[0].column), (2, 7));
    assert_eq!(
        errors[0].to_string(),
        "ERROR: <input>:2:7: found no matching overload for '_+_' applied to '(string, int)'\n |   'é' + 1 == 'x'\n | ......^"
    );
    let errors = env().compile("1 +").unwrap_err();
    assert!(errors[0].message.starts_with("Syntax error"), "{}", errors[0].message);
}

#[test]
fn cost_ends_an_evaluation() {
    let json: serde_json::Value = serde_json::json!((0..1000).collect::<Vec<i32>>());
    let env = env().with_variable("a", nullius_cel::Type::Dyn);
    let program = env.compile("a.all(x, a.all(y, a.all(z, x + y + z >= 0)))").unwrap();
    let activation = Activation::new().with("a", Value::from_json(&json));
    let outcome = program.evaluate(&activation, Budget::default());
    assert_eq!(outcome.result.unwrap_err(), EvalError::CostLimit);
    assert!(outcome.cost <= 1_000_100, "{}", outcome.cost);
    let absorbed = env.compile("a.all(x, a.all(y, a.all(z, true))) || true").unwrap();
    let outcome = absorbed.evaluate(&activation, Budget { cost: 1000, ..Budget::default() });
    assert_eq!(outcome.result.unwrap_err(), EvalError::CostLimit, "no `||` absorbs the budget");
}

#[test]
fn the_shell_s_interrupt_is_asked_every_hundred_iterations() {
    let json: serde_json::Value = serde_json::json!((0..1000).collect::<Vec<i32>>());
    let env = env().with_variable("a", nullius_cel::Type::Dyn);
    let program = env.compile("a.all(x, x >= 0)").unwrap();
    let asked = Cell::new(0);
    let interrupt = || {
        asked.set(asked.get() + 1);
        asked.get() > 3
    };
    let activation = Activation::new().with("a", Value::from_json(&json));
    let budget = Budget { interrupt: Some(&interrupt), ..Budget::default() };
    assert_eq!(program.evaluate(&activation, budget).result.unwrap_err(), EvalError::Interrupted);
    assert_eq!(asked.get(), 4);
}

#[test]
fn values_stay_below_their_limit() {
    let text = serde_json::json!("x".repeat(1024 * 1024));
    let env = env().with_variable("s", nullius_cel::Type::Dyn);
    let activation = Activation::new().with("s", Value::from_json(&text));
    let budget = Budget { cost: u64::MAX, ..Budget::default() };
    for source in [
        "[s,s,s,s,s,s,s,s,s,s,s,s,s,s,s,s,s,s].join()",
        "s.replace('x', 'xxxxxxxxxxxxxxxxxxxx')",
        "'%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s%s'.format([s,s,s,s,s,s,s,s,s,s,s,s,s,s,s,s,s,s])",
        "s.split('').map(x, s.split(''))",
        "lists.range(100000000)",
    ] {
        let program = env.compile(source).unwrap();
        let outcome = program.evaluate(&activation, budget);
        assert!(
            matches!(outcome.result, Err(EvalError::TooLarge { .. })),
            "{source}: {:?}",
            outcome.result.map(|value| value.type_name().to_owned())
        );
    }
}

/// A list of lists of lists, each of which holds the next one nine times: a few kilobytes that are billions of items to who walks them.
fn bomb(depth: usize) -> String {
    (0..depth).fold("[1]".to_owned(), |inner, level| {
        let name = format!("v{level}");
        format!("{inner}.map({name}, [{}])", [name.as_str(); 9].join(", "))
    })
}

#[test]
fn what_shares_its_parts_is_no_larger_than_it_is_written_out() {
    let bomb = bomb(12);
    let refused = |source: &str| {
        let program = env().compile(source).unwrap_or_else(|told| panic!("{source}: {told:?}"));
        let budget = Budget { value_bytes: 256 * 1024, ..Budget::default() };
        let outcome = program.evaluate(&Activation::new(), budget);
        outcome.result.map(|value| value.type_name().to_owned()).unwrap_err()
    };
    for source in [
        // Answers.
        bomb.clone(),
        format!("optional.of({bomb})"),
        format!("{{'a': {bomb}}}"),
        // What writes or walks.
        format!("'%s'.format([{bomb}])"),
    ] {
        assert!(matches!(refused(&source), EvalError::TooLarge { .. }), "{source}");
    }
    for source in [
        format!("[{bomb}].all(x, x == x)"),
        format!("[{bomb}].all(x, x != x)"),
        format!("[{bomb}].all(x, x in [x])"),
        format!("[{bomb}].all(x, [x].indexOf(x) == 0)"),
        format!("[{bomb}].all(x, [x].lastIndexOf(x) == 0)"),
        format!("[{bomb}].all(x, sets.contains([x], [x]))"),
        format!("[{bomb}].all(x, [x, x].distinct().size() == 1)"),
        format!("[{bomb}].all(x, {{'a': x}} == {{'a': x}})"),
        format!("[{bomb}].all(x, optional.of(x) == optional.of(x))"),
    ] {
        let told = refused(&source);
        let is_told = matches!(told, EvalError::TooMany { .. } | EvalError::CostLimit);
        assert!(is_told, "{source}: {told:?}");
    }
    let join = refused(&format!("[dyn('a'), dyn({bomb})].join()"));
    assert_eq!(join, EvalError::Failed("join: invalid input: list".to_owned()));
    // Of what is shared a little nothing is refused.
    let small = env().compile(&format!("[{}].all(x, x == x)", self::bomb(4))).unwrap();
    let outcome = small.evaluate(&Activation::new(), Budget::default());
    assert!(matches!(outcome.result, Ok(Value::Bool(true))));
}

#[test]
fn the_interrupt_is_asked_while_values_are_compared() {
    let program = env().compile(&format!("[{}].all(x, x == x)", bomb(12))).unwrap();
    let asked = Cell::new(0);
    let interrupt = || {
        asked.set(asked.get() + 1);
        asked.get() > 3
    };
    let budget = Budget { interrupt: Some(&interrupt), ..Budget::default() };
    let outcome = program.evaluate(&Activation::new(), budget);
    assert_eq!(outcome.result.unwrap_err(), EvalError::Interrupted);
}
