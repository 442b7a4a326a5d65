//! Runs programs: over borrowed values, with cost counted at each node as the API server counts it, an interrupt looked
//! at every hundred iterations, and a limit on the size of what is made. Errors are values that `&&`, `||`, `all` and
//! `exists` may absorb.

mod calls;

use std::{borrow::Cow, sync::Arc};

use crate::{
    ast::{FoldKind, OptResult, Presence},
    error::{EvalError, Fallible},
    library::{
        authz::Authorizer,
        go,
        operators::{self, Operator, Scalars},
    },
    map::{Entries, Map},
    object::Object,
    program::{Charge, Node, NodeId, operands},
    value::Value,
};

/// The API server's limit on the cost of one expression.
pub const COST_LIMIT: u64 = 1_000_000;
/// The largest value in bytes.
pub const VALUE_LIMIT: usize = 16 * 1024 * 1024;
/// The interrupt is looked at once in so many iterations.
const CHECK_FREQUENCY: u32 = 100;
/// One evaluation compares no more parts of values than there are in the largest value: of how many bytes of it there is one.
const BYTES_PER_PART: usize = 4;
/// Comparing so many counts as an iteration.
const COMPARED_PER_ITERATION: usize = 64;
/// Copying so many bytes counts as an iteration.
const BYTES_PER_ITERATION: usize = 4096;

/// A variable whose fields are made when they are first asked for: the `variables` of a policy. Who implements it
/// keeps what was made and counts what it cost.
pub trait LazyFields {
    /// The value of a field; `None` when there is no such field.
    fn field<'f>(&'f self, name: &str) -> Option<Result<Value<'f>, EvalError>>;
}

/// The variables of an evaluation.
#[derive(Default)]
pub struct Activation<'a> {
    /// So few that looking at each is the quickest.
    variables: Vec<(Cow<'a, str>, Value<'a>)>,
    lazy: Option<(Cow<'a, str>, &'a dyn LazyFields)>,
    authorizer: Option<&'a dyn Authorizer>,
}

impl<'a> Activation<'a> {
    /// Without variables.
    #[must_use]
    pub fn new() -> Activation<'a> {
        Activation::default()
    }

    /// With one more variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'a, str>>, value: Value<'a>) -> Activation<'a> {
        self.set(name, value);
        self
    }

    /// Sets a variable.
    pub fn set(&mut self, name: impl Into<Cow<'a, str>>, value: Value<'a>) {
        let name = name.into();
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value));
    }

    /// With the variable whose fields are made when they are first asked for.
    #[must_use]
    pub fn with_lazy(
        mut self,
        name: impl Into<Cow<'a, str>>,
        fields: &'a dyn LazyFields,
    ) -> Activation<'a> {
        self.lazy = Some((name.into(), fields));
        self
    }

    /// With answers of authorization checks.
    #[must_use]
    pub fn with_authorizer(mut self, authorizer: &'a dyn Authorizer) -> Activation<'a> {
        self.authorizer = Some(authorizer);
        self
    }

    /// What a variable is; one with lazy fields comes before a value of its name.
    pub(crate) fn global(&self, name: &str) -> Global<'a> {
        if let Some((_, fields)) = self.lazy.as_ref().filter(|(known, _)| known == name) {
            return Global::Lazy(*fields);
        }
        let found = self.variables.iter().find(|(known, _)| known == name);
        found.map_or(Global::Missing, |(_, value)| Global::Value(value.clone()))
    }

    pub(crate) fn authorizer(&self) -> Option<&'a dyn Authorizer> {
        self.authorizer
    }
}

/// A variable as an evaluation finds it.
pub(crate) enum Global<'a> {
    Value(Value<'a>),
    Lazy(&'a dyn LazyFields),
    Missing,
}

/// What an evaluation may use.
#[derive(Clone, Copy)]
pub struct Budget<'a> {
    /// The most that it may cost.
    pub cost: u64,
    /// The largest value that it may make, in bytes.
    pub value_bytes: usize,
    /// Says when to stop: the shell looks at its clock.
    pub interrupt: Option<&'a dyn Fn() -> bool>,
}

impl Default for Budget<'_> {
    fn default() -> Self {
        Budget { cost: COST_LIMIT, value_bytes: VALUE_LIMIT, interrupt: None }
    }
}

/// What came of an evaluation.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// The value, or why there is none.
    pub result: Result<Value<'a>, EvalError>,
    /// What it cost.
    pub cost: u64,
}

/// One evaluation.
pub(crate) struct Machine<'a> {
    nodes: &'a [Node],
    names: &'a [Arc<str>],
    globals: Vec<Global<'a>>,
    pub(crate) locals: Vec<Value<'a>>,
    /// Locals that were not read yet, and what makes their values.
    unpaid: Vec<(usize, NodeId)>,
    pub(crate) authorizer: Option<&'a dyn Authorizer>,
    scalars: Scalars,
    budget: Budget<'a>,
    cost: u64,
    iterations: u32,
    copied: usize,
    compared: usize,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(
        nodes: &'a [Node],
        names: &'a [Arc<str>],
        globals: Vec<Global<'a>>,
        authorizer: Option<&'a dyn Authorizer>,
        scalars: Scalars,
        budget: Budget<'a>,
    ) -> Machine<'a> {
        Machine {
            nodes,
            names,
            globals,
            locals: Vec::new(),
            unpaid: Vec::new(),
            authorizer,
            scalars,
            budget,
            cost: 0,
            iterations: 0,
            copied: 0,
            compared: 0,
        }
    }

    /// A machine without a program, on which functions are folded.
    pub(crate) fn idle() -> Machine<'a> {
        Machine::new(&[], &[], Vec::new(), None, Scalars::HaveNothing, Budget::default())
    }

    /// What is made is no larger than the limit, written out: whoever gets it may walk through it.
    pub(crate) fn run(mut self, root: NodeId) -> Outcome<'a> {
        let result = self.eval(root).and_then(|value| match value.is_made() {
            true => self.fit(&value).map(|()| value),
            false => Ok(value),
        });
        Outcome { result, cost: self.cost }
    }

    /// An error where a value is larger than the limit, written out.
    pub(crate) fn fit(&self, value: &Value<'_>) -> Fallible<()> {
        let limit = self.budget.value_bytes;
        if value.is_within(limit) { Ok(()) } else { Err(EvalError::TooLarge { limit }) }
    }

    /// Counts cost; an error beyond the budget.
    pub(crate) fn charge(&mut self, cost: u64) -> Fallible<()> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.budget.cost { Err(EvalError::CostLimit) } else { Ok(()) }
    }

    /// Counts one iteration; an error when the shell says stop.
    pub(crate) fn iterate(&mut self) -> Fallible<()> {
        self.iterations += 1;
        if self.iterations.is_multiple_of(CHECK_FREQUENCY)
            && self.budget.interrupt.is_some_and(|interrupt| interrupt())
        {
            return Err(EvalError::Interrupted);
        }
        Ok(())
    }

    /// Counts two parts of values that are compared; an error when the shell says stop, or beyond the limit.
    pub(crate) fn compare_one(&mut self) -> Fallible<()> {
        self.compared += 1;
        let limit = self.budget.value_bytes / BYTES_PER_PART;
        if self.compared > limit {
            return Err(EvalError::TooMany { limit });
        }
        if self.compared.is_multiple_of(COMPARED_PER_ITERATION) { self.iterate() } else { Ok(()) }
    }

    /// Counts the bytes of a value about to be made; an error beyond the limit.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Fallible<()> {
        if bytes > self.budget.value_bytes {
            return Err(EvalError::TooLarge { limit: self.budget.value_bytes });
        }
        self.copied += bytes;
        while self.copied >= BYTES_PER_ITERATION {
            self.copied -= BYTES_PER_ITERATION;
            self.iterate()?;
        }
        Ok(())
    }

    /// The largest value in bytes.
    pub(crate) fn value_limit(&self) -> usize {
        self.budget.value_bytes
    }

    /// [`Machine::reserve`] for a list of so many items.
    pub(crate) fn reserve_items(&mut self, items: usize) -> Fallible<()> {
        self.reserve(items.saturating_mul(size_of::<Value<'_>>()))
    }

    pub(crate) fn eval(&mut self, id: NodeId) -> Fallible<Value<'a>> {
        let nodes = self.nodes;
        let Some(node) = nodes.get(id as usize) else {
            return Err(EvalError::no_overload());
        };
        match node {
            Node::Const(value) => Ok(value.borrow()),
            Node::Global(at) => self.global(*at),
            Node::Local(at) => {
                self.charge(1)?;
                let place = *at as usize;
                if !self.unpaid.is_empty() {
                    self.pay_for(place)?;
                }
                let value = self.locals.get(place).cloned().ok_or_else(EvalError::no_overload)?;
                go::read(value)
            }
            Node::Unknown(message) => Err(EvalError::failed(message.clone())),
            Node::And(terms) => self.eval_and(terms),
            Node::Or(terms) => self.eval_or(terms),
            Node::Conditional { condition, then, otherwise, refunds } => {
                self.eval_conditional(*condition, *then, *otherwise, *refunds)
            }
            Node::List(items) => self.eval_list(items),
            Node::Map { .. } => self.eval_map(node),
            Node::Struct { name, fields } => self.eval_struct(name, fields),
            Node::Bind { init, body } => self.eval_bind(*init, *body),
            Node::Spine { links, start } => self.eval_spine(links, *start),
            Node::Call(call) if call.args.is_empty() => self.call(call, &[]),
            Node::Select { operand, field, .. } if self.lazy(*operand).is_some() => {
                self.charge(2)?;
                let found = self.lazy(*operand).and_then(|fields| fields.field(field));
                found.unwrap_or_else(|| Err(operators::no_such_key(field)))
            }
            Node::Has { operand, field, .. } if self.lazy(*operand).is_some() => {
                self.charge(1)?;
                match self.lazy(*operand).and_then(|fields| fields.field(field)) {
                    Some(Err(error)) => Err(error),
                    found => Ok(Value::Bool(found.is_some())),
                }
            }
            _ => match operands_first(node) {
                Some(first) => {
                    let first = self.eval(first);
                    self.finish(node, first)
                }
                None => Err(EvalError::no_overload()),
            },
        }
    }

    /// Counts what making the value of a local variable costs, once, when it is read.
    fn pay_for(&mut self, place: usize) -> Fallible<()> {
        let Some(at) = self.unpaid.iter().position(|(unpaid, _)| *unpaid == place) else {
            return Ok(());
        };
        let (_, target) = self.unpaid.remove(at);
        // The target stands outside of the variable: what is within is none of its locals.
        let within = self.locals.split_off(place);
        let made = self.eval(target);
        self.locals.truncate(place);
        self.locals.extend(within);
        made?;
        self.charge(1)
    }

    /// The lazy fields of a variable, when the operand is one that has them.
    fn lazy(&self, operand: NodeId) -> Option<&'a dyn LazyFields> {
        match self.nodes.get(operand as usize) {
            Some(Node::Global(at)) => match self.globals.get(*at as usize) {
                Some(Global::Lazy(fields)) => Some(*fields),
                _ => None,
            },
            _ => None,
        }
    }

    fn eval_spine(&mut self, links: &'a [NodeId], start: NodeId) -> Fallible<Value<'a>> {
        let nodes = self.nodes;
        let mut value = self.eval(start);
        for link in links.iter().rev() {
            let Some(node) = nodes.get(*link as usize) else {
                return Err(EvalError::no_overload());
            };
            value = self.finish(node, value);
        }
        value
    }

    /// The value of a node whose first operand is known.
    fn finish(&mut self, node: &'a Node, first: Fallible<Value<'a>>) -> Fallible<Value<'a>> {
        match node {
            Node::Select { field, charge, .. } => {
                self.charge_call(&first, charge.start)?;
                let operand = first?;
                if matches!(operand, Value::Optional(_)) {
                    let found = operators::select(&operand, field, self.scalars)?;
                    self.charge_presence(&found)?;
                    return Ok(found);
                }
                self.charge(1)?;
                operators::select(&operand, field, self.scalars)
            }
            Node::SelectOptional { field, charge, .. } => {
                self.charge_call(&first, charge.start)?;
                let operand = first?;
                let found = operators::select_optional(&operand, field, self.scalars)?;
                self.charge_presence(&found)?;
                Ok(found)
            }
            Node::Has { field, charge, .. } => match first {
                Ok(operand) => self.finish_has(&operand, field, *charge),
                // The test takes off what the field would have cost, which is never paid.
                Err(error) => {
                    if error.is_absorbed() && charge.start == 0 {
                        self.cost = self.cost.saturating_sub(1);
                    }
                    Err(error)
                }
            },
            Node::Index { index, charge, .. } => self.finish_index(first, *index, *charge),
            Node::IndexOptional { index, charge, .. } => {
                self.check_stop(&first)?;
                if first.is_err() {
                    self.charge(charge.start)?;
                }
                let operand = first?;
                if matches!(operand, Value::Optional(None)) {
                    self.charge(charge.start)?;
                    return Ok(operand);
                }
                let index = self.eval_index(*index, *charge);
                if index.is_err() {
                    self.cost = self.cost.saturating_sub(1);
                }
                let index = index?;
                let found = operators::index_optional(&operand, &index, self.scalars)?;
                self.charge_presence(&found)?;
                Ok(found)
            }
            Node::Not(_) => {
                self.charge_call(&first, 1)?;
                operators::not(&first?)
            }
            Node::Negate(_) => {
                self.charge_call(&first, 1)?;
                operators::negate(&first?)
            }
            Node::Binary { operator, right, cost, .. } => {
                self.finish_binary(*operator, first, *right, *cost)
            }
            Node::Member { set, .. } => {
                let item = first?;
                operators::is_member(self, &item, set)
            }
            Node::Matches { regex, pattern, cost, .. } => {
                let text = first?;
                self.charge((cost.0)(&[text.clone(), pattern.borrow()], None))?;
                match &text {
                    Value::String(text) => Ok(Value::Bool(regex.is_match(text))),
                    _ => Err(EvalError::no_overload()),
                }
            }
            Node::Call(call) => self.finish_call(call, first),
            Node::Fold(fold) => {
                self.check_stop(&first)?;
                // Sorting is a call after the loop, which costs something whatever it is given.
                if first.is_err() && fold.kind == FoldKind::SortBy {
                    self.charge(fold.cost.result)?;
                    fold.check_keys()?;
                }
                let range = first?;
                self.fold(fold, &range)
            }
            Node::OptMap { target, body, result } => {
                self.finish_opt_map(first, *target, *body, *result)
            }
            Node::OrElse { other, kind, .. } => self.finish_or_else(first, *other, *kind),
            _ => first,
        }
    }

    fn finish_has(
        &mut self,
        operand: &Value<'a>,
        field: &str,
        charge: Charge,
    ) -> Fallible<Value<'a>> {
        self.charge(charge.start)?;
        let found = operators::has(operand, field, self.scalars)?;
        // The test takes off what the field costs, which an absent optional never paid.
        if !found && matches!(operand, Value::Optional(_)) {
            self.cost = self.cost.saturating_sub(1);
        }
        Ok(Value::Bool(found))
    }

    fn charge_presence(&mut self, found: &Value<'a>) -> Fallible<()> {
        match found {
            Value::Optional(Some(_)) => self.charge(1),
            _ => Ok(()),
        }
    }

    /// A call whose operand erred costs as much as one that did not; only what stops the evaluation passes.
    fn charge_call(&mut self, first: &Fallible<Value<'a>>, cost: u64) -> Fallible<()> {
        match first {
            Err(error) if !error.is_absorbed() => Err(error.clone()),
            _ => self.charge(cost),
        }
    }

    fn global(&mut self, at: u32) -> Fallible<Value<'a>> {
        self.charge(1)?;
        match self.globals.get(at as usize) {
            Some(Global::Value(value)) => Ok(value.clone()),
            _ => {
                let name = self.names.get(at as usize).map_or("", |name| name);
                Err(EvalError::Failed(format!("no such attribute(s): {name}")))
            }
        }
    }

    fn eval_index(&mut self, index: NodeId, charge: Charge) -> Fallible<Value<'a>> {
        self.charge(charge.start)?;
        let value = self.eval(index);
        self.check_stop(&value)?;
        // Beside an index that erred, the chain that it ends costs what it would have cost.
        self.charge(u64::from(value.is_err()))?;
        self.cost = self.cost.saturating_sub(charge.refund);
        value
    }

    fn finish_index(
        &mut self,
        operand: Fallible<Value<'a>>,
        index: NodeId,
        charge: Charge,
    ) -> Fallible<Value<'a>> {
        self.check_stop(&operand)?;
        if operand.is_err() {
            self.charge(charge.start)?;
        }
        let operand = operand?;
        if matches!(operand, Value::Optional(None)) {
            self.charge(charge.start)?;
            return Ok(operand);
        }
        let index = self.eval_index(index, charge);
        if matches!(operand, Value::Optional(_)) {
            if index.is_err() {
                self.cost = self.cost.saturating_sub(1);
            }
            let index = index?;
            let found = operators::index(&operand, &index, self.scalars)?;
            self.charge_presence(&found)?;
            return Ok(found);
        }
        let index = index?;
        self.charge(1)?;
        operators::index(&operand, &index, self.scalars)
    }

    fn finish_binary(
        &mut self,
        operator: Operator,
        left: Fallible<Value<'a>>,
        right: NodeId,
        cost: crate::cost::CallCost,
    ) -> Fallible<Value<'a>> {
        if let Err(error) = &left
            && !error.is_absorbed()
        {
            return left;
        }
        let right = self.eval(right);
        match (left, right) {
            (Ok(left), Ok(right)) => {
                let operands = [left, right];
                self.charge((cost.0)(&operands, None))?;
                operator.apply(self, &operands[0], &operands[1])
            }
            (left, right) => self.fail_call(cost, vec![left, right]),
        }
    }

    fn eval_and(&mut self, terms: &'a [NodeId]) -> Fallible<Value<'a>> {
        let mut failed = None;
        for term in terms {
            match self.eval(*term) {
                Ok(Value::Bool(false)) => return Ok(Value::Bool(false)),
                Ok(Value::Bool(true)) => {}
                Ok(_) => {
                    failed.get_or_insert_with(EvalError::no_overload);
                }
                Err(error) if error.is_absorbed() => {
                    failed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(Value::Bool(true)), Err)
    }

    fn eval_or(&mut self, terms: &'a [NodeId]) -> Fallible<Value<'a>> {
        let mut failed = None;
        for term in terms {
            match self.eval(*term) {
                Ok(Value::Bool(true)) => return Ok(Value::Bool(true)),
                Ok(Value::Bool(false)) => {}
                Ok(_) => {
                    failed.get_or_insert_with(EvalError::no_overload);
                }
                Err(error) if error.is_absorbed() => {
                    failed.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(Value::Bool(false)), Err)
    }

    fn eval_conditional(
        &mut self,
        condition: NodeId,
        then: NodeId,
        otherwise: NodeId,
        refunds: (u64, u64),
    ) -> Fallible<Value<'a>> {
        let (branch, refund) = match self.eval(condition)? {
            Value::Bool(true) => (then, refunds.0),
            Value::Bool(false) => (otherwise, refunds.1),
            _ => return Err(EvalError::no_overload()),
        };
        let value = self.eval(branch);
        self.check_stop(&value)?;
        self.cost = self.cost.saturating_sub(refund);
        value.and_then(go::read)
    }

    /// What erred while it was made costs as much as what did not.
    pub(crate) fn charge_failure(&mut self, cost: u64, error: EvalError) -> Fallible<Value<'a>> {
        if error.is_absorbed() {
            self.charge(cost)?;
        }
        Err(error)
    }

    /// An item that may be absent; `None` when it is. `place` names it where it is no optional.
    fn present(
        &mut self,
        id: NodeId,
        presence: Presence,
        place: impl FnOnce() -> String,
    ) -> Fallible<Option<Value<'a>>> {
        let value = self.eval(id)?;
        match (presence, value) {
            (Presence::Required, value) => Ok(Some(value)),
            (Presence::Optional, Value::Optional(found)) => {
                Ok(found.map(|value| value.as_ref().clone()))
            }
            (Presence::Optional, other) => Err(EvalError::Failed(format!(
                "cannot initialize optional {} from non-optional value {}",
                place(),
                go::shown(&other)
            ))),
        }
    }

    fn eval_list(&mut self, items: &'a [(NodeId, Presence)]) -> Fallible<Value<'a>> {
        let mut values = Vec::with_capacity(items.len());
        for (id, presence) in items {
            match self.present(*id, *presence, || "list element".to_owned()) {
                Ok(value) => values.extend(value),
                Err(error) => return self.charge_failure(crate::cost::LIST, error),
            }
        }
        self.charge(crate::cost::LIST)?;
        Ok(Value::list(values))
    }

    fn eval_map(&mut self, node: &'a Node) -> Fallible<Value<'a>> {
        let Node::Map { entries, keys } = node else { return Err(EvalError::no_overload()) };
        let mut built = Entries::default();
        for (key, value, presence) in entries {
            let added = match self.eval(*key) {
                Ok(key) => match self
                    .present(*value, *presence, || format!("entry '{}'", go::shown(&key)))
                {
                    Ok(Some(value)) => built.put(key, value, *keys),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            if let Err(error) = added {
                return self.charge_failure(crate::cost::MAP, error);
            }
        }
        self.charge(crate::cost::MAP)?;
        Ok(Value::Map(Map::of(built)))
    }

    fn eval_struct(
        &mut self,
        name: &Arc<str>,
        fields: &'a [(Arc<str>, NodeId, Presence)],
    ) -> Fallible<Value<'a>> {
        let mut built = Vec::with_capacity(fields.len());
        for (field, id, presence) in fields {
            match self.present(*id, *presence, || format!("field '{field}'")) {
                Ok(Some(value)) => built.push((field.clone(), value)),
                Ok(None) => {}
                Err(error) => return self.charge_failure(crate::cost::STRUCT, error),
            }
        }
        self.charge(crate::cost::STRUCT)?;
        let object = Object::checked(name.clone(), built).map_err(EvalError::Failed)?;
        Ok(Value::Object(Arc::new(object)))
    }

    fn eval_bind(&mut self, init: NodeId, body: NodeId) -> Fallible<Value<'a>> {
        let value = self.eval(init)?;
        self.locals.push(value);
        let result = self.eval(body);
        self.locals.pop();
        result
    }

    fn finish_opt_map(
        &mut self,
        target: Fallible<Value<'a>>,
        target_id: NodeId,
        body: NodeId,
        result: OptResult,
    ) -> Fallible<Value<'a>> {
        self.check_stop(&target)?;
        if target.is_err() {
            self.charge(1)?;
        }
        let target = target?;
        let Value::Optional(found) = target else {
            self.charge(1)?;
            let of = target.type_name();
            return Err(EvalError::no_overload_for(&format!("hasValue({of})")));
        };
        // `hasValue()`; the target once more for `value()` is paid for by whoever reads the variable first.
        self.charge(1)?;
        let Some(found) = found else {
            self.charge(1)?;
            return Ok(Value::Optional(None));
        };
        let place = self.locals.len();
        self.locals.push(found.as_ref().clone());
        self.unpaid.push((place, target_id));
        let value = self.eval(body);
        self.unpaid.retain(|(unpaid, _)| *unpaid < place);
        self.locals.truncate(place);
        self.check_stop(&value)?;
        if value.is_err() && result == OptResult::Value {
            self.charge(1)?;
        }
        let value = value?;
        match result {
            OptResult::Value => {
                self.charge(1)?;
                go::read(Value::some(value))
            }
            OptResult::Optional => go::read(value),
        }
    }

    fn finish_or_else(
        &mut self,
        target: Fallible<Value<'a>>,
        other: NodeId,
        kind: OptResult,
    ) -> Fallible<Value<'a>> {
        match target? {
            Value::Optional(Some(value)) => match kind {
                OptResult::Value => Ok(value.as_ref().clone()),
                OptResult::Optional => Ok(Value::Optional(Some(value))),
            },
            Value::Optional(None) => self.eval(other),
            // What is no optional is there.
            value => Ok(value),
        }
    }

    fn check_stop(&self, value: &Fallible<Value<'a>>) -> Fallible<()> {
        match value {
            Err(error) if !error.is_absorbed() => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

fn operands_first(node: &Node) -> Option<NodeId> {
    match node {
        Node::Select { operand, .. } | Node::Has { operand, .. } => Some(*operand),
        Node::Binary { left, .. } => Some(*left),
        Node::Call(call) => call.args.first().copied(),
        other => operands(other).0,
    }
}
