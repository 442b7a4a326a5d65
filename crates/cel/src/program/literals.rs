//! What a literal makes of the node that it stands in: conversions are done once, patterns compiled, sets looked up; and
//! what the API server then refuses.

use super::{Node, NodeId, Planner};
use crate::{
    ast::ExprId,
    check::Mode,
    cost,
    error::EvalError,
    library::{Overload, convert, operators::Operator},
    machine::Machine,
    re2,
    value::Value,
};

impl Planner<'_> {
    /// A literal index is of a type that indexes have, else the API server makes no program of it.
    pub(super) fn check_index(&mut self, id: ExprId, index: NodeId) {
        let Some(Node::Const(value)) = self.nodes.get(index as usize) else { return };
        let is_index = matches!(
            value,
            Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::String(_)
        );
        if !is_index && self.env.profile.fold_errors {
            let message = format!("invalid qualifier type: {}", value.type_name());
            self.error(id, message);
        }
    }

    pub(super) fn plan_operator(
        &mut self,
        operator: Operator,
        name: &'static str,
        only: Option<&'static str>,
        left: NodeId,
        right: NodeId,
    ) -> NodeId {
        if operator == Operator::In
            && only == Some("in_list")
            && let Some(Node::Const(set)) = self.nodes.get(right as usize)
            && let Value::List(list) = set
        {
            if list.is_empty() {
                return self.add(Node::Const(Value::Bool(false)));
            }
            let simple = list.iter().all(|item| {
                matches!(
                    item,
                    Value::Bool(_)
                        | Value::Int(_)
                        | Value::Uint(_)
                        | Value::Double(_)
                        | Value::String(_)
                )
            });
            if simple {
                let set = set.clone();
                return self.add(Node::Member { item: left, set });
            }
        }
        let cost = cost::call_cost(name, only);
        self.add(Node::Binary { operator, left, right, cost })
    }

    pub(super) fn plan_matches(
        &mut self,
        id: ExprId,
        only: Option<&'static str>,
        text: NodeId,
        pattern: NodeId,
    ) -> Option<NodeId> {
        let Some(Node::Const(Value::String(literal))) = self.nodes.get(pattern as usize) else {
            return None;
        };
        let pattern = Value::String(literal.clone());
        match re2::compile_within(literal, self.env.expression_max) {
            Ok(regex) => {
                let cost = cost::call_cost("matches", only);
                Some(self.add(Node::Matches { text, regex: Box::new(regex), pattern, cost }))
            }
            Err(message) => {
                if self.env.profile.fold_errors {
                    self.error(id, message);
                }
                None
            }
        }
    }

    /// A conversion of a literal is a literal.
    pub(super) fn fold_conversion(
        &mut self,
        id: ExprId,
        name: &'static str,
        chosen: &[Overload],
        args: &[NodeId],
    ) -> Option<NodeId> {
        let [argument] = args else { return None };
        if !convert::CONVERSIONS.contains(&name) || self.checked.mode == Mode::Gradual {
            return None;
        }
        let Some(Node::Const(value)) = self.nodes.get(*argument as usize) else { return None };
        let overload = chosen
            .iter()
            .find(|overload| overload.params.first().is_some_and(|param| value.is_of(param)));
        let mut machine = Machine::idle();
        let of = value.type_name();
        let folded = match overload {
            Some(overload) => (overload.run)(&mut machine, std::slice::from_ref(value)),
            None => Err(EvalError::no_overload_for(&format!("{name}({of})"))),
        };
        match folded {
            Ok(folded) => Some(self.add(Node::Const(folded))),
            Err(EvalError::Failed(message)) if self.env.profile.fold_errors => {
                self.error(id, message);
                None
            }
            Err(_) => None,
        }
    }
}
