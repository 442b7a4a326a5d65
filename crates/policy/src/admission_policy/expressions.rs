//! Expressions of one phase: they share variables, each made where it is first asked for, and one budget of cost.

use std::cell::{Cell, OnceCell, RefCell};

use nullius_cel::{
    Activation, Budget, COST_LIMIT, EvalError, LazyFields, Value,
    authz::{Authorizer, AuthzValue, ResourceTarget},
};
use serde_json::Value as Json;

use super::{
    decision::{Refusal, Stop},
    facts::{Detail, Need},
    policy::{Expression, Named},
    trace::ExpressionTrace,
    values,
};

/// What match conditions may cost.
pub(super) const CONDITIONS_BUDGET: u64 = 2_500_000;
/// What validations with their messages, audit annotations, or one mutation may cost.
pub(super) const RULES_BUDGET: u64 = 10_000_000;

/// What expressions see.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) object: Option<&'a Json>,
    pub(super) old_object: Option<&'a Json>,
    pub(super) params: Option<&'a Json>,
    pub(super) request: &'a Json,
    pub(super) namespace: Option<&'a Json>,
    /// None where expressions may not ask.
    pub(super) authorizer: Option<&'a dyn Authorizer>,
    pub(super) subjects: &'a Subjects,
    pub(super) interrupt: Option<&'a dyn Fn() -> bool>,
    pub(super) detail: Detail,
}

/// Whose rights expressions ask for: values that all policies share.
pub(super) struct Subjects {
    authorizer: Value<'static>,
    request_resource: Value<'static>,
}

impl Subjects {
    pub(super) fn of(request_resource: ResourceTarget) -> Self {
        Self {
            authorizer: AuthzValue::authorizer(),
            request_resource: AuthzValue::request_resource(request_resource),
        }
    }
}

impl<'a> Inputs<'a> {
    fn activation(&self) -> Activation<'a> {
        let value = |json: Option<&'a Json>| json.map_or(Value::Null, Value::from_json);
        let activation = Activation::new()
            .with("object", value(self.object))
            .with("oldObject", value(self.old_object))
            .with("params", value(self.params))
            .with("request", Value::from_json(self.request))
            .with("namespaceObject", value(self.namespace));
        let Some(authorizer) = self.authorizer else { return activation };
        activation
            .with("authorizer", self.subjects.authorizer.clone())
            .with("authorizer.requestResource", self.subjects.request_resource.clone())
            .with_authorizer(authorizer)
    }

    fn budget(&self) -> Budget<'a> {
        Budget { cost: COST_LIMIT, interrupt: self.interrupt, ..Budget::default() }
    }
}

/// The variables of a policy within one phase.
pub(super) struct Variables<'a> {
    declared: &'a [Named],
    inputs: Inputs<'a>,
    made: Vec<OnceCell<Result<Value<'a>, EvalError>>>,
    /// What variables cost since somebody last asked.
    cost: Cell<u64>,
    traces: RefCell<Vec<ExpressionTrace>>,
    handle: OnceCell<Handle<'a>>,
    activation: OnceCell<Activation<'a>>,
}

/// Variables as expressions reach them, other variables too.
#[derive(Clone, Copy)]
struct Handle<'a>(&'a Variables<'a>);

impl<'a> Variables<'a> {
    pub(super) fn new(declared: &'a [Named], inputs: Inputs<'a>) -> Self {
        Self {
            declared,
            inputs,
            made: declared.iter().map(|_| OnceCell::new()).collect(),
            cost: Cell::new(0),
            traces: RefCell::default(),
            handle: OnceCell::new(),
            activation: OnceCell::new(),
        }
    }

    /// The variables that were made, in the order of their making.
    pub(super) fn traces(&self) -> Vec<ExpressionTrace> {
        self.traces.borrow().clone()
    }

    fn activation(&'a self) -> &'a Activation<'a> {
        self.activation.get_or_init(|| {
            let handle = self.handle.get_or_init(|| Handle(self));
            self.inputs.activation().with_lazy("variables", handle)
        })
    }

    fn make(&'a self, named: &'a Named) -> Result<Value<'a>, EvalError> {
        let program = &named.expression.program;
        let outcome = program.evaluate(self.activation(), self.inputs.budget());
        if is_end(&outcome.result) {
            return outcome.result;
        }
        self.cost.set(self.cost.get().saturating_add(outcome.cost));
        self.traces.borrow_mut().extend(trace(
            || named.name.clone(),
            &named.expression,
            &outcome.result.as_ref().map_err(ToString::to_string),
            outcome.cost,
            self.inputs.detail,
        ));
        outcome.result.map_err(|error| {
            let name = &named.name;
            EvalError::Failed(format!("composited variable \"{name}\" fails to evaluate: {error}"))
        })
    }
}

impl<'a> LazyFields for Handle<'a> {
    fn field<'f>(&'f self, name: &str) -> Option<Result<Value<'f>, EvalError>> {
        let variables: &'a Variables<'a> = self.0;
        let at = variables.declared.iter().position(|named| named.name == name)?;
        let (named, cell) = (variables.declared.get(at)?, variables.made.get(at)?);
        if let Some(made) = cell.get() {
            return Some(made.clone());
        }
        let made = variables.make(named);
        if !is_end(&made) {
            let _ = cell.set(made.clone());
        }
        Some(made)
    }
}

/// The budget of a phase was spent: nothing more of it is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfBudget;

impl OutOfBudget {
    pub(super) const MESSAGE: &str = "validation failed due to running out of cost budget, no further validation rules will be run";
}

/// A phase: expressions in order, until the budget is spent.
pub(super) struct Phase<'a> {
    variables: &'a Variables<'a>,
    left: u64,
}

/// What came of one expression.
pub(super) struct Evaluated<'a> {
    pub(super) result: Result<Value<'a>, String>,
    pub(super) trace: Option<ExpressionTrace>,
}

impl<'a> Phase<'a> {
    pub(super) fn new(variables: &'a Variables<'a>, budget: u64) -> Self {
        Self { variables, left: budget }
    }

    /// What is left of the budget.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Evaluates the next expression; the error is the API server's text.
    pub(super) fn evaluate(
        &mut self,
        name: impl FnOnce() -> String,
        expression: &'a Expression,
    ) -> Result<Result<Evaluated<'a>, OutOfBudget>, Stop> {
        let budget = self.variables.inputs.budget();
        let outcome = expression.program.evaluate(self.variables.activation(), budget);
        match outcome.result {
            Err(EvalError::Needs(check)) => return Err(Stop::needs(Need::Access(*check))),
            // Whoever is out of time has no answer; a failure policy is not asked.
            Err(EvalError::Interrupted) => {
                return Err(Stop::refused(Refusal::out_of_time()));
            }
            _ => {}
        }
        let variables = self.variables.cost.take();
        let spent = variables.saturating_add(outcome.cost);
        let Some(left) = self.left.checked_sub(spent) else {
            self.left = 0;
            return Ok(Err(OutOfBudget));
        };
        self.left = left;
        let result = outcome.result.map_err(|error| {
            format!("expression '{}' resulted in error: {error}", expression.source)
        });
        let detail = self.variables.inputs.detail;
        let trace = trace(name, expression, &result.as_ref(), outcome.cost, detail);
        Ok(Ok(Evaluated { result, trace }))
    }
}

/// Whether an evaluation ended before it had a value or an error of its own.
fn is_end(result: &Result<Value<'_>, EvalError>) -> bool {
    matches!(result, Err(EvalError::Needs(_) | EvalError::Interrupted))
}

fn trace<E: ToString>(
    name: impl FnOnce() -> String,
    expression: &Expression,
    result: &Result<&Value<'_>, E>,
    cost: u64,
    detail: Detail,
) -> Option<ExpressionTrace> {
    if detail == Detail::Policies {
        return None;
    }
    Some(ExpressionTrace {
        name: name(),
        expression: expression.source.to_string(),
        value: result.as_ref().ok().and_then(|value| match (detail, value) {
            (Detail::Values, _) | (_, Value::Bool(_) | Value::String(_)) => {
                Some(values::shown(value))
            }
            (Detail::Outcomes | Detail::Policies, _) => None,
        }),
        error: result.as_ref().err().map(ToString::to_string),
        changed: None,
        cost,
    })
}
