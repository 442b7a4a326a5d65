//! Programs: a checked expression as a plan of nodes in one arena, with literals folded, regular expressions compiled and
//! names resolved. [`crate::machine`] runs it.

mod literals;

use std::sync::Arc;

use regex::Regex;

use crate::{
    ast::{Expr, ExprId, FoldKind, Literal, OptResult, Presence, Test},
    check::{Checked, Receiver, Reference},
    cost::{self, CallCost, Estimate},
    env::Env,
    error::{CompileError, Fallible},
    library::{
        Library, Overload, go,
        operators::{Operator, Scalars},
    },
    machine::{Activation, Budget, Machine, Outcome},
    map::{Entries, Keys, Map},
    re2,
    types::Type,
    value::{Octets, Text, Value},
};

pub(crate) type NodeId = u32;

/// A compiled expression. It is shared between threads and run any number of times.
#[derive(Debug)]
pub struct Program {
    nodes: Box<[Node]>,
    root: NodeId,
    globals: Box<[Arc<str>]>,
    result: Type,
    estimate: Estimate,
    scalars: Scalars,
}

#[derive(Debug)]
pub(crate) enum Node {
    Const(Value<'static>),
    Global(u32),
    Local(u32),
    /// A name that nobody knows: errs when it runs.
    Unknown(String),
    Select {
        operand: NodeId,
        field: Arc<str>,
        /// Costs of the selection and, once a chain, of what it selects from.
        charge: Charge,
    },
    SelectOptional {
        operand: NodeId,
        field: Arc<str>,
        charge: Charge,
    },
    Has {
        operand: NodeId,
        field: Arc<str>,
        charge: Charge,
    },
    Index {
        operand: NodeId,
        index: NodeId,
        charge: Charge,
    },
    IndexOptional {
        operand: NodeId,
        index: NodeId,
        charge: Charge,
    },
    Not(NodeId),
    Negate(NodeId),
    Binary {
        operator: Operator,
        left: NodeId,
        right: NodeId,
        cost: CallCost,
    },
    /// `x in [literals]`.
    Member {
        item: NodeId,
        set: Value<'static>,
    },
    And(Box<[NodeId]>),
    Or(Box<[NodeId]>),
    Conditional {
        condition: NodeId,
        then: NodeId,
        otherwise: NodeId,
        /// What the branches do not cost: the root of a chain of selections.
        refunds: (u64, u64),
    },
    Matches {
        text: NodeId,
        regex: Box<Regex>,
        pattern: Value<'static>,
        cost: CallCost,
    },
    Call(Box<CallPlan>),
    List(Box<[(NodeId, Presence)]>),
    Map {
        entries: Box<[(NodeId, NodeId, Presence)]>,
        keys: Keys,
    },
    Struct {
        name: Arc<str>,
        fields: Box<[(Arc<str>, NodeId, Presence)]>,
    },
    Fold(Box<FoldPlan>),
    Bind {
        init: NodeId,
        body: NodeId,
    },
    OptMap {
        target: NodeId,
        body: NodeId,
        result: OptResult,
    },
    /// `target.or(other)`, `target.orValue(other)`.
    OrElse {
        target: NodeId,
        other: NodeId,
        kind: OptResult,
    },
    /// A chain too long for recursion: its nodes from the outermost in, then where it starts.
    Spine {
        links: Box<[NodeId]>,
        start: NodeId,
    },
}

/// What a selection costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    /// The chain's start: 1 when it is neither a name nor a choice.
    pub(crate) start: u64,
    /// What an index does not cost: its root, when it is a chain of selections itself.
    pub(crate) refund: u64,
}

#[derive(Debug)]
pub(crate) struct CallPlan {
    pub(crate) function: &'static str,
    pub(crate) candidates: Box<[Overload]>,
    pub(crate) args: Box<[NodeId]>,
    pub(crate) cost: CallCost,
    pub(crate) counted: Counted,
}

/// What the API server counts the cost of a call by without looking whether the argument is that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Nothing,
    /// The first argument is a list.
    List,
    /// The second argument is an int.
    Depth,
}

impl Counted {
    fn of(overload: Option<&str>) -> Counted {
        match overload {
            Some("list_distinct") => Counted::List,
            Some("list_flatten_int") => Counted::Depth,
            Some(id) if id.starts_with("list_") && id.ends_with("_sort") => Counted::List,
            _ => Counted::Nothing,
        }
    }

    pub(crate) fn is_in(self, args: &[Value<'_>]) -> bool {
        match self {
            Counted::Nothing => true,
            Counted::List => matches!(args.first(), Some(Value::List(_))),
            Counted::Depth => matches!(args.get(1), Some(Value::Int(_))),
        }
    }
}

#[derive(Debug)]
pub(crate) struct FoldPlan {
    pub(crate) kind: FoldKind,
    pub(crate) range: NodeId,
    pub(crate) two: bool,
    pub(crate) filter: Option<NodeId>,
    pub(crate) body: NodeId,
    /// What each item costs beside its body, and the result.
    pub(crate) cost: cost::FoldCost,
    pub(crate) sort_cost: CallCost,
    /// Whether `sortBy` is one call, not one of many.
    pub(crate) one_order: bool,
}

impl Program {
    /// The type of the result as the checker found it.
    #[must_use]
    pub fn result_type(&self) -> &Type {
        &self.result
    }

    /// What running it may cost at least and at most, as far as types tell.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        self.estimate
    }

    /// The names of the variables that it reads.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.globals.iter().map(|name| &**name)
    }

    /// Runs it: a value or an error, and what it cost.
    #[must_use]
    pub fn evaluate<'a>(&'a self, activation: &Activation<'a>, budget: Budget<'a>) -> Outcome<'a> {
        let globals = self.globals.iter().map(|name| activation.global(name)).collect();
        let authorizer = activation.authorizer();
        Machine::new(&self.nodes, &self.globals, globals, authorizer, self.scalars, budget)
            .run(self.root)
    }

    pub(crate) fn plan(checked: Checked, env: &Env) -> Result<Program, Vec<CompileError>> {
        let estimate = cost::estimate(&checked, env);
        let mut planner = Planner {
            checked: &checked,
            env,
            library: &env.library,
            nodes: Vec::new(),
            depth: Vec::new(),
            errors: Vec::new(),
        };
        let root = planner.plan(checked.ast.root);
        let root = planner.flattened(root);
        let too_deep = planner.depth_of(root) > MAX_PLAN_DEPTH;
        let Planner { nodes, mut errors, .. } = planner;
        if too_deep {
            errors.push(CompileError::at(
                &checked.ast.source,
                0,
                "expression nests too deeply: split it into variables",
            ));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let result = checked.type_of(checked.ast.root).clone();
        let scalars = env.profile.scalars;
        // It lives as long as its policy: nothing is kept of its making but what is evaluated.
        let (nodes, globals) = (nodes.into(), checked.globals.into());
        Ok(Program { nodes, root, globals, result, estimate, scalars })
    }
}

/// Chains longer than this are walked, not recursed into.
const SPINE: u32 = 24;
/// How deep evaluation may recurse: far past what a person writes, well within a small stack.
const MAX_PLAN_DEPTH: u32 = 1_200;

struct Planner<'c> {
    checked: &'c Checked,
    env: &'c Env,
    library: &'c Library,
    nodes: Vec<Node>,
    /// For each node how deep evaluation recurses, and how long the chain of first operands is that it ends.
    depth: Vec<(u32, u32)>,
    errors: Vec<CompileError>,
}

impl Planner<'_> {
    fn add(&mut self, node: Node) -> NodeId {
        let deepest = |planner: &Self, ids: &[NodeId]| {
            ids.iter().map(|id| planner.depth_of(*id)).max().unwrap_or(0)
        };
        let (first, others) = operands(&node);
        let side = deepest(self, &others);
        let (spine, along) = first.map_or((0, 0), |first| {
            let (depth, spine) = self.depth.get(first as usize).copied().unwrap_or_default();
            (spine + 1, depth)
        });
        let id = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(node);
        self.depth.push((side.max(along) + 1, spine));
        id
    }

    fn depth_of(&self, id: NodeId) -> u32 {
        self.depth.get(id as usize).map_or(0, |(depth, _)| *depth)
    }

    /// A long chain as one node: its links stay where they are, evaluation goes over them in a loop.
    fn flattened(&mut self, id: NodeId) -> NodeId {
        let spine = self.depth.get(id as usize).map_or(0, |(_, spine)| *spine);
        if spine < SPINE {
            return id;
        }
        let mut links = Vec::with_capacity(spine as usize);
        let mut at = id;
        let mut side = 0;
        while let Some(node) = self.nodes.get(at as usize) {
            let (first, others) = operands(node);
            let Some(first) = first else { break };
            // A selection from a variable is evaluated as a whole: its fields may be lazy.
            if matches!(self.nodes.get(first as usize), Some(Node::Global(_))) {
                break;
            }
            side = others.iter().map(|id| self.depth_of(*id)).max().unwrap_or(0).max(side);
            links.push(at);
            at = first;
        }
        let depth = side.max(self.depth_of(at)) + 2;
        let node = Node::Spine { links: links.into(), start: at };
        let id = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(node);
        self.depth.push((depth, 0));
        id
    }

    fn plan(&mut self, id: ExprId) -> NodeId {
        // The spine is planned from the inside out, so that a long chain costs no stack.
        let mut spine = vec![id];
        while let Some(inner) = spine.last().and_then(|at| self.spine_child(*at)) {
            spine.push(inner);
        }
        let mut planned = None;
        while let Some(at) = spine.pop() {
            planned = Some(self.plan_node(at, planned));
        }
        planned.unwrap_or(0)
    }

    /// Plans an operand that is not the first of its node.
    fn side(&mut self, id: ExprId) -> NodeId {
        let planned = self.plan(id);
        self.flattened(planned)
    }

    fn spine_child(&self, id: ExprId) -> Option<ExprId> {
        match self.checked.ast.expr(id) {
            Expr::Select { operand, .. } => {
                matches!(self.checked.reference(id), Reference::None).then_some(*operand)
            }
            Expr::Call { target, args, function } => {
                if matches!(function.as_str(), "_&&_" | "_||_" | "_?_:_") {
                    return None;
                }
                if matches!(function.as_str(), "_?._") {
                    return args.first().copied();
                }
                match self.checked.reference(id) {
                    Reference::Call { receiver: Receiver::Argument, .. } => {
                        target.or(args.first().copied())
                    }
                    Reference::Call { receiver: Receiver::Namespace, .. } => args.first().copied(),
                    _ => None,
                }
            }
            Expr::Fold(fold) => Some(fold.range),
            Expr::OptMap { target, .. } => Some(*target),
            _ => None,
        }
    }

    /// Plans a node whose spine child is planned already.
    fn plan_node(&mut self, id: ExprId, inner: Option<NodeId>) -> NodeId {
        let checked = self.checked;
        match checked.ast.expr(id) {
            Expr::Literal(literal) => self.add(Node::Const(constant(literal))),
            Expr::Ident(_) => self.plan_name(id),
            Expr::Select { field, test, .. } => match inner {
                None => self.plan_name(id),
                Some(operand) => {
                    let charge = self.charge(operand);
                    let field: Arc<str> = Arc::from(field.as_str());
                    self.add(match test {
                        Test::Value => Node::Select { operand, field, charge },
                        Test::Presence => Node::Has { operand, field, charge },
                    })
                }
            },
            Expr::Call { function, args, .. } => self.plan_call(id, function, args, inner),
            Expr::List { items } => {
                let items: Vec<_> =
                    items.iter().map(|item| (self.side(item.value), item.presence)).collect();
                self.plan_list(items)
            }
            Expr::Map { entries } => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|entry| (self.side(entry.key), self.side(entry.value), entry.presence))
                    .collect();
                self.plan_map(entries)
            }
            Expr::Struct { name, fields } => {
                let name: Arc<str> = match checked.reference(id) {
                    Reference::TypeName(name) => name.clone(),
                    _ => return self.add(Node::Unknown(format!("unknown type: {name}"))),
                };
                let fields = fields
                    .iter()
                    .map(|field| {
                        (Arc::from(field.name.as_str()), self.side(field.value), field.presence)
                    })
                    .collect();
                self.add(Node::Struct { name, fields })
            }
            Expr::Fold(fold) => {
                let range = inner.unwrap_or(0);
                let filter = fold.filter.map(|filter| self.side(filter));
                let body = self.side(fold.body);
                let two = fold.second.is_some();
                let mut cost = cost::fold_cost(fold.kind);
                // The list around an item that is a literal is a literal too, which costs nothing.
                let grows =
                    matches!(fold.kind, FoldKind::Map | FoldKind::TransformList | FoldKind::SortBy);
                if grows && matches!(self.nodes.get(body as usize), Some(Node::Const(_))) {
                    cost.step -= cost::LIST;
                }
                let one_order = self.has_one_order(fold.body);
                let sort_cost = if one_order { cost::sort_by_key() } else { cost::FIXED_ONE };
                self.add(Node::Fold(Box::new(FoldPlan {
                    kind: fold.kind,
                    range,
                    two,
                    filter,
                    body,
                    cost,
                    sort_cost,
                    one_order,
                })))
            }
            Expr::Bind { init, body, .. } => {
                let init = self.side(*init);
                let body = self.side(*body);
                self.add(Node::Bind { init, body })
            }
            Expr::OptMap { body, result, .. } => {
                let target = inner.unwrap_or(0);
                let body = self.side(*body);
                self.add(Node::OptMap { target, body, result: *result })
            }
        }
    }

    /// What sorting by a key costs: by overload where the key's type is known.
    /// Whether the keys of `sortBy` are of a type that is known.
    fn has_one_order(&self, key: ExprId) -> bool {
        !matches!(self.checked.type_of(key), Type::Dyn | Type::Null)
    }

    fn plan_name(&mut self, id: ExprId) -> NodeId {
        let node = match self.checked.reference(id) {
            Reference::Global(at) => Node::Global(*at),
            Reference::Local(at) => Node::Local(*at),
            Reference::TypeName(name) => Node::Const(Value::Type(name.clone())),
            Reference::Unknown(message) => Node::Unknown(message.clone()),
            Reference::None | Reference::Call { .. } => {
                Node::Unknown("no such overload".to_owned())
            }
        };
        self.add(node)
    }

    /// What a selection from this operand costs beside itself.
    fn charge(&self, operand: NodeId) -> Charge {
        let start = match self.nodes.get(operand as usize) {
            Some(
                Node::Global(_)
                | Node::Local(_)
                | Node::Conditional { .. }
                | Node::Select { .. }
                | Node::SelectOptional { .. }
                | Node::Has { .. }
                | Node::Index { .. }
                | Node::IndexOptional { .. },
            ) => 0,
            _ => 1,
        };
        Charge { start, refund: 0 }
    }

    /// What a chain of selections does not cost as a branch of a choice or as an index: its root.
    fn refund(&self, id: NodeId) -> u64 {
        let mut at = id;
        loop {
            match self.nodes.get(at as usize) {
                Some(Node::Global(_) | Node::Local(_)) => return 1,
                Some(
                    Node::Select { operand, charge, .. }
                    | Node::SelectOptional { operand, charge, .. }
                    | Node::Index { operand, charge, .. }
                    | Node::IndexOptional { operand, charge, .. },
                ) => {
                    if charge.start == 1 {
                        return 1;
                    }
                    at = *operand;
                }
                Some(Node::Spine { links, .. }) => match links.first() {
                    Some(link) => at = *link,
                    None => return 0,
                },
                _ => return 0,
            }
        }
    }

    fn plan_list(&mut self, items: Vec<(NodeId, Presence)>) -> NodeId {
        let constants: Option<Vec<Value<'static>>> = items
            .iter()
            .map(|(id, presence)| match self.nodes.get(*id as usize) {
                Some(Node::Const(value)) if *presence == Presence::Required => Some(value.clone()),
                _ => None,
            })
            .collect();
        match constants {
            Some(values) => self.add(Node::Const(Value::list(values))),
            None => self.add(Node::List(items.into())),
        }
    }

    fn plan_map(&mut self, entries: Vec<(NodeId, NodeId, Presence)>) -> NodeId {
        let keys = self.env.profile.keys;
        let constants: Option<Vec<(Value<'static>, Value<'static>)>> = entries
            .iter()
            .map(|(key, value, presence)| {
                match (self.nodes.get(*key as usize), self.nodes.get(*value as usize)) {
                    (Some(Node::Const(key)), Some(Node::Const(value)))
                        if *presence == Presence::Required =>
                    {
                        Some((key.clone(), value.clone()))
                    }
                    _ => None,
                }
            })
            .collect();
        let mut folded = Entries::default();
        let folds = constants.is_some_and(|constants| {
            constants.into_iter().all(|(key, value)| folded.put(key, value, keys).is_ok())
        });
        if folds {
            return self.add(Node::Const(Value::Map(Map::of(folded))));
        }
        self.add(Node::Map { entries: entries.into(), keys })
    }

    fn plan_call(
        &mut self,
        id: ExprId,
        function: &str,
        args: &[ExprId],
        inner: Option<NodeId>,
    ) -> NodeId {
        match function {
            "_&&_" | "_||_" => return self.plan_logic(id, function),
            "_?_:_" => return self.plan_conditional(args),
            "_?._" => {
                let operand = inner.unwrap_or(0);
                let charge = self.charge(operand);
                let field = match args.get(1).map(|field| self.checked.ast.expr(*field)) {
                    Some(Expr::Literal(Literal::String(field))) => Arc::from(field.as_str()),
                    _ => Arc::from(""),
                };
                return self.add(Node::SelectOptional { operand, field, charge });
            }
            _ => {}
        }
        let (name, overloads, receiver) = match self.checked.reference(id) {
            Reference::Call { function, overloads, receiver } => {
                (*function, overloads.clone(), *receiver)
            }
            Reference::Unknown(message) => return self.add(Node::Unknown(message.clone())),
            _ => return self.add(Node::Unknown("no such overload".to_owned())),
        };
        let Expr::Call { target, .. } = self.checked.ast.expr(id) else {
            return self.add(Node::Unknown("no such overload".to_owned()));
        };
        let with_target = target.is_some() && receiver == Receiver::Argument;
        let rest = if with_target { args } else { args.get(1..).unwrap_or_default() };
        let mut planned: Vec<NodeId> = inner.into_iter().collect();
        planned.extend(rest.iter().map(|argument| self.side(*argument)).collect::<Vec<_>>());
        self.plan_function(id, name, &overloads, planned)
    }

    fn plan_function(
        &mut self,
        id: ExprId,
        name: &'static str,
        overloads: &[usize],
        args: Vec<NodeId>,
    ) -> NodeId {
        let declared = self.library.function(name);
        let chosen: Vec<Overload> = declared
            .into_iter()
            .flat_map(|function| overloads.iter().filter_map(|at| function.overloads.get(*at)))
            .cloned()
            .collect();
        let only = match chosen.as_slice() {
            [one] => Some(one.id),
            _ => None,
        };
        if let ([operand], "!_") = (args.as_slice(), name) {
            return self.add(Node::Not(*operand));
        }
        if let ([operand], "-_") = (args.as_slice(), name) {
            return self.add(Node::Negate(*operand));
        }
        if let [left, right] = args.as_slice() {
            let (left, right) = (*left, *right);
            if matches!(name, "_[_]" | "_[?_]") {
                self.check_index(id, right);
            }
            match name {
                "_[_]" => {
                    let charge = Charge { refund: self.refund(right), ..self.charge(left) };
                    return self.add(Node::Index { operand: left, index: right, charge });
                }
                "_[?_]" => {
                    let charge = Charge { refund: self.refund(right), ..self.charge(left) };
                    return self.add(Node::IndexOptional { operand: left, index: right, charge });
                }
                "or" if self.env.profile.optionals => {
                    return self.add(Node::OrElse {
                        target: left,
                        other: right,
                        kind: OptResult::Optional,
                    });
                }
                "orValue" if self.env.profile.optionals => {
                    return self.add(Node::OrElse {
                        target: left,
                        other: right,
                        kind: OptResult::Value,
                    });
                }
                _ => {}
            }
            if let Some(operator) = Operator::named(name) {
                return self.plan_operator(operator, name, only, left, right);
            }
            if name == "matches"
                && let Some(node) = self.plan_matches(id, only, left, right)
            {
                return node;
            }
        }
        if let ("find" | "findAll", Some(Node::Const(Value::String(pattern)))) =
            (name, args.get(1).and_then(|pattern| self.nodes.get(*pattern as usize)))
            && self.env.profile.fold_errors
            && let Err(message) = re2::compile(pattern)
        {
            self.error(id, message);
        }
        if let Some(folded) = self.fold_conversion(id, name, &chosen, &args) {
            return folded;
        }
        let cost = cost::call_cost(name, only);
        self.add(Node::Call(Box::new(CallPlan {
            function: name,
            candidates: chosen.into(),
            args: args.into(),
            cost,
            counted: Counted::of(only),
        })))
    }

    fn error(&mut self, id: ExprId, message: impl Into<String>) {
        let ast = &self.checked.ast;
        self.errors.push(CompileError::at(&ast.source, ast.offset(id), message));
    }

    /// All terms of a chain of `&&` or of `||`, in order.
    fn plan_logic(&mut self, id: ExprId, operator: &str) -> NodeId {
        let mut terms = Vec::new();
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            match self.checked.ast.expr(at) {
                Expr::Call { function, args, target: None } if function == operator => {
                    open.extend(args.iter().rev());
                }
                _ => terms.push(self.side(at)),
            }
        }
        self.add(if operator == "_&&_" { Node::And(terms.into()) } else { Node::Or(terms.into()) })
    }

    fn plan_conditional(&mut self, args: &[ExprId]) -> NodeId {
        let [condition, then, otherwise] = args else {
            return self.add(Node::Unknown("no such overload".to_owned()));
        };
        let (condition, then, otherwise) =
            (self.side(*condition), self.side(*then), self.side(*otherwise));
        let refunds = (self.refund(then), self.refund(otherwise));
        self.add(Node::Conditional { condition, then, otherwise, refunds })
    }
}

impl FoldPlan {
    /// Keys that erred end the evaluation where the API server counts them without looking whether there are any.
    pub(crate) fn check_keys(&self) -> Fallible<()> {
        match self.one_order {
            true => Err(go::not_counted(Counted::List, &[])),
            false => Ok(()),
        }
    }
}

/// The operand that comes first, along which a chain runs, and all others.
pub(crate) fn operands(node: &Node) -> (Option<NodeId>, Vec<NodeId>) {
    match node {
        Node::Const(_) | Node::Global(_) | Node::Local(_) | Node::Unknown(_) => (None, Vec::new()),
        Node::Select { operand, .. }
        | Node::SelectOptional { operand, .. }
        | Node::Has { operand, .. }
        | Node::Not(operand)
        | Node::Negate(operand)
        | Node::Member { item: operand, .. }
        | Node::Matches { text: operand, .. } => (Some(*operand), Vec::new()),
        Node::Index { operand, index, .. } | Node::IndexOptional { operand, index, .. } => {
            (Some(*operand), vec![*index])
        }
        Node::Binary { left, right, .. } => (Some(*left), vec![*right]),
        Node::OrElse { target, other, .. } => (Some(*target), vec![*other]),
        Node::And(terms) | Node::Or(terms) => (None, terms.to_vec()),
        Node::Conditional { condition, then, otherwise, .. } => {
            (None, vec![*condition, *then, *otherwise])
        }
        Node::Call(call) => match call.args.split_first() {
            Some((first, rest)) => (Some(*first), rest.to_vec()),
            None => (None, Vec::new()),
        },
        Node::List(items) => (None, items.iter().map(|(id, _)| *id).collect()),
        Node::Map { entries, .. } => {
            (None, entries.iter().flat_map(|(key, value, _)| [*key, *value]).collect())
        }
        Node::Struct { fields, .. } => (None, fields.iter().map(|(_, id, _)| *id).collect()),
        Node::Fold(fold) => {
            (Some(fold.range), fold.filter.into_iter().chain([fold.body]).collect())
        }
        Node::Bind { init, body } => (None, vec![*init, *body]),
        Node::OptMap { target, body, .. } => (Some(*target), vec![*body]),
        Node::Spine { links, start } => (None, links.iter().chain([start]).copied().collect()),
    }
}

fn constant(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(truth) => Value::Bool(*truth),
        Literal::Int(number) => Value::Int(*number),
        Literal::Uint(number) => Value::Uint(*number),
        Literal::Double(number) => Value::Double(*number),
        Literal::String(text) => Value::String(Text::Owned(Arc::from(text.as_str()))),
        Literal::Bytes(octets) => Value::Bytes(Octets::Owned(Arc::from(octets.as_slice()))),
    }
}
