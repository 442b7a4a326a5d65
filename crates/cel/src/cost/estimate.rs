//! What an expression may cost before it runs: bounds over the tree, with the sizes that literals and types tell. Macros
//! are weighed as what cel-go expands them to.

use super::{Estimate, LIST, MAP, PATTERN, STRUCT, WALK, functions};
use crate::{
    ast::{Expr, ExprId, Fold, FoldKind, Literal, OptResult, Test},
    check::{Checked, Receiver, Reference},
    env::Env,
    library::Library,
    types::Type,
    value::characters,
};

/// Bounds of the cost of a checked expression.
pub(crate) fn estimate(checked: &Checked, env: &Env) -> Estimate {
    let count = checked.ast.len();
    let mut estimator = Estimator {
        checked,
        library: &env.library,
        costs: vec![None; count],
        sizes: vec![None; count],
        entries: vec![None; count],
        locals: Vec::new(),
    };
    estimator.cost(checked.ast.root)
}

/// Sizes of what a list or a map holds.
#[derive(Clone, Copy, Debug)]
struct EntrySize {
    is_list: bool,
    key: Estimate,
    value: Estimate,
}

impl EntrySize {
    fn union(one: Option<EntrySize>, two: Option<EntrySize>) -> Option<EntrySize> {
        let (one, two) = (one?, two?);
        Some(EntrySize {
            is_list: one.is_list,
            key: one.key.union(two.key),
            value: one.value.union(two.value),
        })
    }
}

/// What is known of a macro's variable.
#[derive(Clone, Copy, Debug, Default)]
struct Local {
    size: Option<Estimate>,
    entry: Option<EntrySize>,
}

pub(super) struct Estimator<'c> {
    checked: &'c Checked,
    library: &'c Library,
    costs: Vec<Option<Estimate>>,
    sizes: Vec<Option<Estimate>>,
    entries: Vec<Option<EntrySize>>,
    locals: Vec<Local>,
}

/// A call that is weighed: its overload, its target and its other arguments.
pub(super) struct Weighed<'w> {
    pub(super) function: &'w str,
    pub(super) overload: &'w str,
    pub(super) target: Option<ExprId>,
    pub(super) args: &'w [ExprId],
}

/// The cost of a call beside its arguments, and the size of its result where it is known.
pub(super) struct CallEstimate {
    pub(super) cost: Estimate,
    pub(super) size: Option<Estimate>,
}

impl CallEstimate {
    pub(super) fn of(cost: Estimate) -> CallEstimate {
        CallEstimate { cost, size: None }
    }

    pub(super) fn sized(cost: Estimate, size: Estimate) -> CallEstimate {
        CallEstimate { cost, size: Some(size) }
    }
}

impl Estimator<'_> {
    fn cost(&mut self, id: ExprId) -> Estimate {
        let mut spine = vec![id];
        while let Some(inner) = spine.last().and_then(|at| self.spine_child(*at)) {
            if self.known(inner).is_some() {
                break;
            }
            spine.push(inner);
        }
        while let Some(at) = spine.pop() {
            if self.known(at).is_none() {
                let cost = self.node_cost(at);
                if let Some(slot) = self.costs.get_mut(at as usize) {
                    *slot = Some(cost);
                }
            }
        }
        self.known(id).unwrap_or(Estimate::ZERO)
    }

    fn known(&self, id: ExprId) -> Option<Estimate> {
        self.costs.get(id as usize).copied().flatten()
    }

    fn spine_child(&self, id: ExprId) -> Option<ExprId> {
        match self.checked.ast.expr(id) {
            Expr::Select { operand, .. } => {
                matches!(self.checked.reference(id), Reference::None).then_some(*operand)
            }
            Expr::Call { target, args, .. } => match self.checked.reference(id) {
                Reference::Call { receiver: Receiver::Namespace, .. } => args.first().copied(),
                _ => target.or(args.first().copied()),
            },
            Expr::Fold(fold) => Some(fold.range),
            Expr::OptMap { target, .. } => Some(*target),
            _ => None,
        }
    }

    pub(super) fn literal_int(&self, id: ExprId) -> Option<i64> {
        match self.checked.ast.expr(id) {
            Expr::Literal(Literal::Int(number)) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn type_of(&self, id: ExprId) -> &Type {
        self.checked.type_of(id)
    }

    /// The size of a value, when anything tells it.
    fn size(&self, id: ExprId) -> Option<Estimate> {
        if let Some(size) = self.sizes.get(id as usize).copied().flatten() {
            return Some(size);
        }
        let count = |length: usize| Some(Estimate::fixed(length as u64));
        match self.checked.ast.expr(id) {
            Expr::Literal(Literal::String(text)) => return Some(Estimate::fixed(characters(text))),
            Expr::Literal(Literal::Bytes(octets)) => return count(octets.len()),
            Expr::Literal(_) => return Some(Estimate::ONE),
            Expr::List { items } => return count(items.len()),
            Expr::Map { entries } => return count(entries.len()),
            _ => {}
        }
        if is_scalar(self.type_of(id)) {
            return Some(Estimate::ONE);
        }
        self.local(id).and_then(|local| local.size)
    }

    /// The size of a value, anything when nothing tells it.
    pub(super) fn size_or_unknown(&self, id: ExprId) -> Estimate {
        self.size(id).unwrap_or(Estimate::UNKNOWN)
    }

    /// The largest size that is known of a result, 1 when none is.
    pub(super) fn computed(&self, id: ExprId) -> u64 {
        self.size(id).map_or(1, |size| size.max)
    }

    fn local(&self, id: ExprId) -> Option<Local> {
        match self.checked.reference(id) {
            Reference::Local(depth) => self.locals.get(*depth as usize).copied(),
            _ => None,
        }
    }

    fn entry(&self, id: ExprId) -> Option<EntrySize> {
        self.entries
            .get(id as usize)
            .copied()
            .flatten()
            .or_else(|| self.local(id).and_then(|local| local.entry))
    }

    fn set_size(&mut self, id: ExprId, size: Option<Estimate>) {
        if let (Some(slot), Some(size)) = (self.sizes.get_mut(id as usize), size) {
            *slot = Some(size);
        }
    }

    fn set_entry(&mut self, id: ExprId, entry: Option<EntrySize>) {
        if let (Some(slot), Some(entry)) = (self.entries.get_mut(id as usize), entry) {
            *slot = Some(entry);
        }
    }

    fn node_cost(&mut self, id: ExprId) -> Estimate {
        match self.checked.ast.expr(id) {
            Expr::Literal(_) => Estimate::ZERO,
            Expr::Ident(_) => Estimate::ONE,
            Expr::Select { operand, test, .. } => self.select_cost(id, *operand, *test),
            Expr::Call { function, target, args } => self.call_cost(id, function, *target, args),
            Expr::List { items } => {
                let mut cost = Estimate::fixed(LIST);
                let mut value: Option<Estimate> = None;
                for item in items {
                    cost = cost.plus(self.cost(item.value));
                    let size = self.size_or_unknown(item.value);
                    value = Some(value.map_or(size, |known| known.union(size)));
                }
                let value = value.unwrap_or(Estimate::ZERO);
                self.set_entry(id, Some(EntrySize { is_list: true, key: Estimate::ONE, value }));
                cost
            }
            Expr::Map { entries } => {
                let mut cost = Estimate::fixed(MAP);
                let mut sizes: Option<(Estimate, Estimate)> = None;
                for entry in entries {
                    cost = cost.plus(self.cost(entry.key)).plus(self.cost(entry.value));
                    let key = self.size_or_unknown(entry.key);
                    let value = self.size_or_unknown(entry.value);
                    sizes = Some(sizes.map_or((key, value), |(known_key, known_value)| {
                        (known_key.union(key), known_value.union(value))
                    }));
                }
                let (key, value) = sizes.unwrap_or((Estimate::ZERO, Estimate::ZERO));
                self.set_entry(id, Some(EntrySize { is_list: false, key, value }));
                cost
            }
            Expr::Struct { fields, .. } => fields
                .iter()
                .fold(Estimate::fixed(STRUCT), |cost, field| cost.plus(self.cost(field.value))),
            Expr::Fold(fold) => self.fold_cost(id, fold),
            Expr::Bind { init, body, .. } => {
                let cost = Estimate::fixed(LIST).plus(self.cost(*init));
                let local = Local { size: self.size(*init), entry: self.entry(*init) };
                let body_cost = self.within([local], |estimator| {
                    let cost = estimator.cost(*body);
                    let (size, entry) = (estimator.size(*body), estimator.entry(*body));
                    estimator.set_size(id, size);
                    estimator.set_entry(id, entry);
                    cost
                });
                cost.plus(body_cost)
            }
            Expr::OptMap { target, body, result, .. } => {
                let target_cost = self.cost(*target);
                let body_cost = self.within([Local::default()], |estimator| estimator.cost(*body));
                let value = target_cost.plus(Estimate::ONE);
                let mut present = Estimate::fixed(LIST).plus(value).plus(body_cost);
                if *result == OptResult::Value {
                    present = present.plus(Estimate::ONE);
                }
                let tested = target_cost.plus(Estimate::ONE);
                tested.plus(present.union(Estimate::ONE))
            }
        }
    }

    fn within<T>(
        &mut self,
        locals: impl IntoIterator<Item = Local>,
        work: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let depth = self.locals.len();
        self.locals.extend(locals);
        let result = work(self);
        self.locals.truncate(depth);
        result
    }

    fn select_cost(&mut self, id: ExprId, operand: ExprId, test: Test) -> Estimate {
        if !matches!(self.checked.reference(id), Reference::None) {
            return Estimate::ONE;
        }
        let cost = self.cost(operand);
        let typed = matches!(self.type_of(operand), Type::Map(..) | Type::Object(_));
        if test == Test::Value && typed { cost.plus(Estimate::ONE) } else { cost }
    }

    fn fold_cost(&mut self, id: ExprId, fold: &Fold) -> Estimate {
        let range_cost = self.cost(fold.range);
        let count = self.size_or_unknown(fold.range);
        let entry = self.entry(fold.range);
        let is_list =
            entry.map_or(matches!(self.type_of(fold.range), Type::List(_)), |entry| entry.is_list);
        let locals: Vec<Local> = if fold.second.is_some() {
            vec![
                Local { size: entry.map(|entry| entry.key), entry: None },
                Local { size: entry.map(|entry| entry.value), entry: None },
            ]
        } else {
            let size = entry.map(|entry| if is_list { entry.value } else { entry.key });
            vec![Local { size, entry: None }]
        };
        self.within(locals, |estimator| {
            let body = estimator.cost(fold.body);
            let filter = fold.filter.map(|filter| estimator.cost(filter));
            let size = estimator.size_or_unknown(fold.body);
            let item = match fold.kind {
                FoldKind::Filter => estimator.item_size(id),
                _ => size,
            };
            let weight = Weight { body, filter, count };
            let loops = weight.fold(fold.kind);
            let cost = range_cost.plus(loops);
            match fold.kind {
                FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => {
                    estimator.set_size(id, Some(Estimate::ONE));
                    cost
                }
                FoldKind::SortBy => {
                    let sort = estimator.sort_cost(fold.body, count);
                    estimator.set_size(id, Some(count.times(count)));
                    // A name for the list, the list and its keys.
                    cost.plus(Estimate::fixed(LIST + 2)).plus(sort)
                }
                FoldKind::Map | FoldKind::Filter | FoldKind::TransformList => {
                    estimator.set_size(id, Some(count));
                    let value = Estimate::ZERO.union(item);
                    let key = Estimate::ONE;
                    estimator.set_entry(id, Some(EntrySize { is_list: true, key, value }));
                    cost
                }
                FoldKind::TransformMap | FoldKind::TransformMapEntry => {
                    estimator.set_size(id, Some(count));
                    cost
                }
            }
        })
    }

    /// The size of an item that a filter keeps: its type tells it before the list does.
    fn item_size(&self, filter: ExprId) -> Estimate {
        match self.type_of(filter) {
            Type::List(element) if is_scalar(element) => Estimate::ONE,
            _ => self.locals.last().and_then(|local| local.size).unwrap_or(Estimate::UNKNOWN),
        }
    }

    fn sort_cost(&self, key: ExprId, count: Estimate) -> Estimate {
        let squared = count.times(count);
        let by = |factor: f64| squared.scaled(factor).plus(Estimate::fixed(LIST + 1));
        match self.type_of(key) {
            Type::String | Type::Bytes => by(2.0 + WALK),
            Type::Dyn => by(2.0).union(by(2.0 + WALK)),
            _ => by(2.0),
        }
    }

    fn call_cost(
        &mut self,
        id: ExprId,
        function: &str,
        target: Option<ExprId>,
        args: &[ExprId],
    ) -> Estimate {
        if function == "dyn"
            && let [argument] = args
        {
            let cost = self.cost(*argument).plus(Estimate::ONE);
            let (size, entry) = (self.size(*argument), self.entry(*argument));
            self.set_size(id, size);
            self.set_entry(id, entry);
            return cost;
        }
        let costs: Vec<Estimate> = args.iter().map(|argument| self.cost(*argument)).collect();
        let arguments = costs.iter().fold(Estimate::ZERO, |sum, cost| sum.plus(*cost));
        if function == "_?._" {
            return arguments.plus(Estimate::ONE);
        }
        let Reference::Call { function, overloads, receiver } = self.checked.reference(id) else {
            return Estimate::ZERO;
        };
        let (function, overloads) = (*function, overloads.clone());
        let target = target.filter(|_| *receiver == Receiver::Argument);
        let target_cost = target.map_or(Estimate::ZERO, |target| self.cost(target));
        let ids: Vec<&'static str> = self
            .library
            .function(function)
            .into_iter()
            .flat_map(|declared| overloads.iter().filter_map(|at| declared.overloads.get(*at)))
            .map(|overload| overload.id)
            .collect();
        let mut total: Option<Estimate> = None;
        let mut size: Option<Estimate> = None;
        for overload in ids {
            let weighed = Weighed { function, overload, target, args };
            let estimate = self.overload_cost(id, &weighed, &costs, arguments);
            total = Some(total.map_or(estimate.cost, |known| known.union(estimate.cost)));
            if let Some(found) = estimate.size {
                size = Some(size.map_or(found, |known| known.union(found)));
            }
            if matches!(overload, "index_list" | "index_map") {
                size = args.first().and_then(|list| self.entry(*list)).map(|entry| entry.value);
            }
            if size.is_none() {
                size = self.size(id);
            }
        }
        self.set_size(id, size);
        target_cost.plus(total.unwrap_or(Estimate::ZERO))
    }

    /// The cost of one overload with its arguments.
    fn overload_cost(
        &mut self,
        id: ExprId,
        call: &Weighed<'_>,
        costs: &[Estimate],
        arguments: Estimate,
    ) -> CallEstimate {
        if let Some(known) = functions::estimate(self, call) {
            return CallEstimate { cost: known.cost.plus(arguments), size: known.size };
        }
        let cost = match (call.overload, costs, call.args) {
            ("logical_and" | "logical_or", [left, right], _) => {
                return CallEstimate::of(Estimate { min: left.min, max: left.plus(*right).max });
            }
            ("conditional", [condition, then, otherwise], [_, one, two]) => {
                let size = self.size_or_unknown(*one).union(self.size_or_unknown(*two));
                let entry = EntrySize::union(self.entry(*one), self.entry(*two));
                self.set_entry(id, entry);
                return CallEstimate::sized(condition.plus(then.union(*otherwise)), size);
            }
            ("add_string" | "add_bytes" | "add_list", _, [one, two]) => {
                let size = self.size_or_unknown(*one).plus(self.size_or_unknown(*two));
                let entry = EntrySize::union(self.entry(*one), self.entry(*two));
                self.set_entry(id, entry);
                let own =
                    if call.overload == "add_list" { Estimate::ONE } else { size.scaled(WALK) };
                return CallEstimate::sized(own.plus(arguments), size);
            }
            _ => self.standard_cost(call),
        };
        CallEstimate { cost: cost.cost.plus(arguments), size: cost.size }
    }

    /// The cost of an overload of the standard library beside its arguments.
    fn standard_cost(&self, call: &Weighed<'_>) -> CallEstimate {
        let sized = |at: usize| {
            call.args.get(at).map_or(Estimate::UNKNOWN, |argument| self.size_or_unknown(*argument))
        };
        let target = call.target.map(|target| self.size_or_unknown(target));
        match (call.overload, target) {
            ("string_format", Some(target)) => CallEstimate::of(target.scaled(WALK)),
            ("string_to_bytes", _) => {
                let size = sized(0);
                CallEstimate::sized(
                    size.scaled(WALK),
                    Estimate { min: size.min, max: size.max.wrapping_mul(4) },
                )
            }
            ("bytes_to_string", _) => {
                let size = sized(0);
                CallEstimate::sized(
                    size.scaled(WALK),
                    Estimate { min: size.min / 4, max: size.max },
                )
            }
            ("strings_quote", _) => {
                let size = sized(0);
                let quoted = Estimate {
                    min: size.min.wrapping_add(2),
                    max: size.max.wrapping_mul(2).wrapping_add(2),
                };
                CallEstimate::sized(size.scaled(WALK), quoted)
            }
            ("starts_with_string" | "ends_with_string", _) => {
                CallEstimate::of(sized(0).scaled(WALK))
            }
            ("in_list", _) => CallEstimate::of(sized(1).scaled(1.0)),
            ("matches_string", Some(target)) => {
                let walk = target.plus(Estimate::ONE).scaled(WALK);
                CallEstimate::of(walk.times(sized(0).scaled(PATTERN)))
            }
            ("contains_string", Some(target)) => {
                CallEstimate::of(target.scaled(WALK).times(sized(0).scaled(WALK)))
            }
            (
                "less_string"
                | "greater_string"
                | "less_equals_string"
                | "greater_equals_string"
                | "less_bytes"
                | "greater_bytes"
                | "less_equals_bytes"
                | "greater_equals_bytes"
                | "equals"
                | "not_equals",
                _,
            ) => {
                let smallest = sized(0).max.min(sized(1).max);
                let bounds = Estimate { min: u64::from(smallest > 0), max: smallest };
                CallEstimate::of(bounds.scaled(WALK))
            }
            _ => CallEstimate::of(Estimate::ONE),
        }
    }
}

/// A macro that is weighed.
struct Weight {
    body: Estimate,
    filter: Option<Estimate>,
    count: Estimate,
}

impl Weight {
    /// What the expansion costs beside its range.
    fn fold(&self, kind: FoldKind) -> Estimate {
        let one = Estimate::ONE;
        let append = |item: Estimate| item.plus(Estimate::fixed(LIST + 2));
        let chosen = |taken: Estimate| match self.filter {
            Some(filter) => filter.plus(taken.union(one)),
            None => taken,
        };
        let (init, condition, step, result) = match kind {
            FoldKind::All => {
                let step = Estimate { min: 1, max: one.plus(self.body).max };
                (0, 2, step, 1)
            }
            FoldKind::Exists => {
                let step = Estimate { min: 1, max: one.plus(self.body).max };
                (0, 3, step, 1)
            }
            FoldKind::ExistsOne => (0, 0, self.body.plus(Estimate { min: 1, max: 2 }), 2),
            FoldKind::Map | FoldKind::TransformList => (LIST, 0, chosen(append(self.body)), 1),
            FoldKind::SortBy => (LIST, 0, append(self.body), 1),
            FoldKind::Filter => (LIST, 0, self.body.plus(append(one).union(one)), 1),
            FoldKind::TransformMap => (MAP, 0, chosen(self.body.plus(Estimate::fixed(3))), 1),
            FoldKind::TransformMapEntry => (MAP, 0, chosen(self.body.plus(Estimate::fixed(2))), 1),
        };
        let each = step.plus(Estimate::fixed(condition));
        Estimate::fixed(init + result).plus(self.count.times(each))
    }
}

fn is_scalar(of: &Type) -> bool {
    match of {
        Type::Bool | Type::Int | Type::Uint | Type::Double | Type::Duration | Type::Timestamp => {
            true
        }
        Type::Optional(value) => is_scalar(value),
        _ => false,
    }
}
