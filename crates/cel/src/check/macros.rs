//! The types of macros: their variables, their bodies, and what they make.

use super::Checker;
use crate::{
    ast::{ExprId, Fold, FoldKind, OptResult},
    types::{Type, Unbound},
};

impl Checker<'_> {
    pub(super) fn check_fold(&mut self, id: ExprId, fold: &Fold) {
        let range = self.resolved(fold.range);
        let two = fold.second.is_some();
        let (first, second) = match &range {
            Type::List(element) if two => (Type::Int, element.as_ref().clone()),
            Type::List(element) => (element.as_ref().clone(), Type::Dyn),
            Type::Map(key, value) => (key.as_ref().clone(), value.as_ref().clone()),
            Type::Dyn | Type::Error => (Type::Dyn, Type::Dyn),
            Type::Var(_) => {
                self.variables.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.error(fold.range, message);
                (Type::Error, Type::Error)
            }
        };
        let mut locals = vec![(fold.variable.clone(), first.clone())];
        if let Some(name) = &fold.second {
            locals.push((name.clone(), second));
        }
        let result = self.within(locals, |checker| checker.fold_result(id, fold, first));
        self.set(id, result);
    }

    fn fold_result(&mut self, id: ExprId, fold: &Fold, element: Type) -> Type {
        if let Some(filter) = fold.filter {
            let of = self.type_of(filter);
            self.check_condition(id, filter, &of, &Type::list(Type::Dyn));
        }
        let body = self.type_of(fold.body);
        match fold.kind {
            FoldKind::All | FoldKind::Exists => {
                self.check_terms(&[fold.body], &[body]);
                Type::Bool
            }
            FoldKind::ExistsOne => {
                self.check_condition(id, fold.body, &body, &Type::Int);
                Type::Bool
            }
            FoldKind::Filter => {
                self.check_condition(id, fold.body, &body, &Type::list(element.clone()));
                Type::list(self.variables.resolve(&element, Unbound::Keep))
            }
            FoldKind::Map | FoldKind::TransformList => {
                let element = self.variables.fresh();
                self.variables.assign(&body, &element);
                // What is known of the items now is not widened by what stands beside the list.
                match self.variables.resolve(&body, Unbound::Keep) {
                    Type::Dyn => Type::list(Type::Dyn),
                    _ => Type::list(self.variables.resolve(&element, Unbound::Keep)),
                }
            }
            FoldKind::TransformMap => Type::map(element, body),
            FoldKind::TransformMapEntry => match self.variables.resolve(&body, Unbound::Keep) {
                map @ Type::Map(..) => map,
                Type::Dyn | Type::Error => Type::map(Type::Dyn, Type::Dyn),
                other => {
                    self.error(
                        id,
                        format!(
                            "found no matching overload for 'cel.@mapInsert' applied to '(map(dyn, dyn), {other})'"
                        ),
                    );
                    Type::Error
                }
            },
            FoldKind::SortBy => {
                // Keys of a type that nothing tells are ints: the first that can be sorted.
                if matches!(self.variables.resolve(&body, Unbound::Keep), Type::Var(_)) {
                    self.variables.assign(&Type::Int, &body);
                }
                let body = self.variables.resolve(&body, Unbound::Dyn);
                let any = matches!(self.resolved(fold.range), Type::Dyn);
                let ordered = matches!(
                    body,
                    Type::Dyn
                        | Type::Error
                        | Type::Null
                        | Type::Bool
                        | Type::Int
                        | Type::Uint
                        | Type::Double
                        | Type::String
                        | Type::Bytes
                        | Type::Timestamp
                        | Type::Duration
                );
                if !ordered {
                    let element = self.variables.resolve(&element, Unbound::Dyn);
                    self.error(
                        id,
                        format!(
                            "found no matching overload for '@sortByAssociatedKeys' applied to 'list({element}).(list({body}))'"
                        ),
                    );
                }
                match any {
                    false => Type::list(self.variables.resolve(&element, Unbound::Keep)),
                    // Every way to sort fits, and their results are lists of as many unknown types.
                    true if body.is_dyn() || body == Type::Null => Type::Dyn,
                    true => Type::list(self.variables.fresh()),
                }
            }
        }
    }

    /// The condition of the `?:` that a macro expands to.
    fn check_condition(&mut self, id: ExprId, _condition: ExprId, of: &Type, branches: &Type) {
        if !self.variables.assign(of, &Type::Bool) {
            let of = self.variables.resolve(of, Unbound::Dyn);
            let branches = self.variables.resolve(branches, Unbound::Dyn);
            self.error(
                id,
                format!(
                    "found no matching overload for '_?_:_' applied to '({of}, {branches}, {branches})'"
                ),
            );
        }
    }

    pub(super) fn check_opt_map(
        &mut self,
        id: ExprId,
        target: ExprId,
        name: &str,
        body: ExprId,
        result: OptResult,
    ) {
        let inner = match self.resolved(target) {
            Type::Optional(inner) => inner.as_ref().clone(),
            // What `value()` yields of it is a type of its own, which nothing tells yet.
            Type::Dyn | Type::Error => self.variables.fresh(),
            of @ Type::Var(_) => {
                let inner = self.variables.fresh();
                self.variables.assign(&of, &Type::optional(inner.clone()));
                inner
            }
            other => {
                self.error(
                    id,
                    format!("found no matching overload for 'hasValue' applied to '{other}.()'"),
                );
                Type::Error
            }
        };
        let body_type = self.within([(name.to_owned(), inner)], |checker| checker.type_of(body));
        let of = match result {
            OptResult::Value => Type::optional(body_type),
            OptResult::Optional => {
                // The two branches of the `?:` that the macro expands to: the body, or nothing.
                let (wanted, none) = (self.variables.fresh(), self.variables.fresh());
                let branches = [body_type.clone(), Type::optional(none)];
                if !self.variables.assign_all(&branches, &[wanted.clone(), wanted.clone()]) {
                    let body_type = self.variables.resolve(&body_type, Unbound::Dyn);
                    self.error(
                        id,
                        format!(
                            "found no matching overload for '_?_:_' applied to '(bool, {body_type}, optional_type(dyn))'"
                        ),
                    );
                }
                self.variables.resolve(&wanted, Unbound::Keep)
            }
        };
        self.set(id, of);
    }
}
