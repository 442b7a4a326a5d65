//! Calls of functions: which of their meanings is for the values at hand, and what a call costs whose operands err.

use super::{Machine, Node};
use crate::{
    cost::CallCost,
    error::{EvalError, Fallible},
    library::{go, operators},
    program::{CallPlan, Counted},
    value::Value,
};

/// Functions that look at their arguments themselves and tell of a wrong one without their name.
const UNGUARDED: [&str; 4] = ["contains", "endsWith", "matches", "startsWith"];

impl<'a> Machine<'a> {
    pub(super) fn finish_call(
        &mut self,
        plan: &'a CallPlan,
        first: Fallible<Value<'a>>,
    ) -> Fallible<Value<'a>> {
        match plan.args.len() {
            1 => {
                self.check_stop(&first)?;
                match first {
                    Ok(value) => self.call(plan, &[value]),
                    Err(_) if plan.counted == Counted::List => {
                        Err(go::not_counted(plan.counted, &[]))
                    }
                    Err(error) => self.fail_call(plan.cost, vec![Err(error)]),
                }
            }
            2 if plan.candidates.len() < 2 && plan.function != "format" => {
                self.check_stop(&first)?;
                if matches!(plan.function, "find" | "findAll") && self.is_literal(plan, 1) {
                    // With a literal pattern nothing is counted when there is no text.
                    first.as_ref().map_err(EvalError::clone)?;
                }
                let second = self.eval(plan.args[1]);
                match (first, second) {
                    (Ok(one), Ok(two)) => self.call(plan, &[one, two]),
                    (_, Err(error)) if error.is_absorbed() && plan.counted == Counted::Depth => {
                        Err(go::not_counted(plan.counted, &[]))
                    }
                    (first, second) => self.fail_call(plan.cost, vec![first, second]),
                }
            }
            _ => {
                let mut args = Vec::with_capacity(plan.args.len());
                args.push(first?);
                // Of a call with many meanings, and of one with many arguments, an error is the last thing seen.
                for (at, id) in plan.args.iter().enumerate().skip(1) {
                    match self.eval(*id) {
                        Ok(value) => args.push(value),
                        // What comes after an error is not evaluated, so that the call costs nothing.
                        Err(error) if at + 1 < plan.args.len() => return Err(error),
                        Err(error) => {
                            let known = args.into_iter().map(Ok).chain([Err(error)]).collect();
                            return self.fail_call(plan.cost, known);
                        }
                    }
                }
                self.call(plan, &args)
            }
        }
    }

    /// The first error of a call's operands; the call costs what it costs, an error counting as one thing.
    pub(super) fn fail_call(
        &mut self,
        cost: CallCost,
        operands: Vec<Fallible<Value<'a>>>,
    ) -> Fallible<Value<'a>> {
        let mut failed = None;
        let mut known = Vec::with_capacity(operands.len());
        for operand in operands {
            match operand {
                Ok(value) => known.push(value),
                Err(error) if !error.is_absorbed() => return Err(error),
                Err(error) => {
                    failed.get_or_insert(error);
                    known.push(Value::Null);
                }
            }
        }
        self.charge((cost.0)(&known, None))?;
        Err(failed.unwrap_or_else(EvalError::no_overload))
    }

    pub(super) fn call(&mut self, plan: &'a CallPlan, args: &[Value<'a>]) -> Fallible<Value<'a>> {
        if !plan.counted.is_in(args) {
            return Err(go::not_counted(plan.counted, args));
        }
        let chosen = plan
            .candidates
            .iter()
            .find(|overload| overload.params.iter().zip(args).all(|(param, arg)| arg.is_of(param)));
        let result = match chosen {
            Some(overload) => (overload.run)(self, args),
            // These look for a trait of what they are called on.
            None if plan.function == "sort" && matches!(args, [Value::List(_)]) => {
                Err(EvalError::failed("list elements must be comparable"))
            }
            // The size of whatever has one, whichever meaning the checker chose.
            None if plan.function == "size" && has_size(args) => match plan.candidates.first() {
                Some(overload) => (overload.run)(self, args),
                None => Err(EvalError::no_overload_for("size")),
            },
            None if matches!(plan.function, "size" | "sort") => {
                let receiver = args.first().unwrap_or(&Value::Null);
                Err(operators::no_trait(receiver, plan.function))
            }
            None if plan.function == "matches"
                && !matches!(args.first(), Some(Value::String(_))) =>
            {
                let receiver = args.first().unwrap_or(&Value::Null);
                Err(operators::no_trait(receiver, plan.function))
            }
            // A literal pattern is looked at before anything else is.
            None if matches!(plan.function, "find" | "findAll") && self.is_literal(plan, 1) => {
                Err(EvalError::no_overload())
            }
            // It looks at its arguments itself, and has a form of its own.
            None if plan.function == "flatten" => {
                let mut shown = args.iter().map(Value::type_name);
                let (of, rest) = (shown.next().unwrap_or_default(), shown.collect::<Vec<_>>());
                Err(EvalError::no_overload_for(&format!("{of}.flatten({})", rest.join(", "))))
            }
            None if plan.candidates.len() > 1 || !UNGUARDED.contains(&plan.function) => {
                let shown: Vec<&str> = args.iter().map(Value::type_name).collect();
                Err(EvalError::no_overload_for(&format!("{}({})", plan.function, shown.join(", "))))
            }
            None => Err(EvalError::no_overload()),
        };
        if let Err(error) = &result
            && !error.is_absorbed()
        {
            return result;
        }
        self.charge((plan.cost.0)(args, result.as_ref().ok()))?;
        result
    }

    fn is_literal(&self, plan: &CallPlan, at: usize) -> bool {
        let argument = plan.args.get(at).and_then(|id| self.nodes.get(*id as usize));
        matches!(argument, Some(Node::Const(Value::String(_))))
    }
}

fn has_size(args: &[Value<'_>]) -> bool {
    matches!(args, [Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_)])
}
