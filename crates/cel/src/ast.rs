//! The tree of an expression with its macros expanded into nouns of their own. Nodes lie in one arena, children before
//! parents, so that a chain of thousands of operators is dropped without recursion.

/// A node of the tree, by its place in the arena.
pub(crate) type ExprId = u32;

/// A parsed expression.
#[derive(Debug)]
pub(crate) struct Ast {
    exprs: Vec<Expr>,
    /// Where each node stands in the source, in octets.
    offsets: Vec<u32>,
    pub(crate) root: ExprId,
    pub(crate) source: String,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Expr {
    Literal(Literal),
    Ident(String),
    Select {
        operand: ExprId,
        field: String,
        test: Test,
    },
    Call {
        function: String,
        target: Option<ExprId>,
        args: Vec<ExprId>,
    },
    List {
        items: Vec<Item>,
    },
    Map {
        entries: Vec<Entry>,
    },
    Struct {
        name: String,
        fields: Vec<Field>,
    },
    Fold(Fold),
    /// `cel.bind(name, init, body)`.
    Bind {
        name: String,
        init: ExprId,
        body: ExprId,
    },
    /// `target.optMap(name, body)` and `target.optFlatMap(name, body)`.
    OptMap {
        target: ExprId,
        name: String,
        body: ExprId,
        result: OptResult,
    },
}

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

/// Whether a selection yields the field or tells whether it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    Value,
    Presence,
}

/// Whether an item must be there or may be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Optional,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) value: ExprId,
    pub(crate) presence: Presence,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) key: ExprId,
    pub(crate) value: ExprId,
    pub(crate) presence: Presence,
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) value: ExprId,
    pub(crate) presence: Presence,
    pub(crate) offset: u32,
}

/// A macro that goes through a list or a map.
#[derive(Debug)]
pub(crate) struct Fold {
    pub(crate) kind: FoldKind,
    pub(crate) range: ExprId,
    pub(crate) variable: String,
    /// The second variable: the item of an index, the value of a key.
    pub(crate) second: Option<String>,
    pub(crate) filter: Option<ExprId>,
    pub(crate) body: ExprId,
}

/// What a macro makes of what it goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformList,
    TransformMap,
    TransformMapEntry,
    SortBy,
}

/// Whether the body of an `optMap` is a value or an optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OptResult {
    Value,
    Optional,
}

impl Ast {
    pub(crate) fn new(source: &str) -> Ast {
        Ast { exprs: Vec::new(), offsets: Vec::new(), root: 0, source: source.to_owned() }
    }

    pub(crate) fn add(&mut self, expr: Expr, offset: u32) -> ExprId {
        let id = u32::try_from(self.exprs.len()).unwrap_or(u32::MAX);
        self.exprs.push(expr);
        self.offsets.push(offset);
        id
    }

    pub(crate) fn len(&self) -> usize {
        self.exprs.len()
    }

    pub(crate) fn expr(&self, id: ExprId) -> &Expr {
        static MISSING: Expr = Expr::Literal(Literal::Null);
        self.exprs.get(id as usize).unwrap_or(&MISSING)
    }

    pub(crate) fn offset(&self, id: ExprId) -> u32 {
        self.offsets.get(id as usize).copied().unwrap_or_default()
    }

    /// The dotted name that a chain of selections spells: `a.b.c`.
    pub(crate) fn qualified_name(&self, id: ExprId) -> Option<String> {
        let mut parts = Vec::new();
        let mut at = id;
        loop {
            match self.expr(at) {
                Expr::Ident(name) => {
                    parts.push(name.as_str());
                    parts.reverse();
                    return Some(parts.join("."));
                }
                Expr::Select { operand, field, test: Test::Value } => {
                    parts.push(field);
                    at = *operand;
                }
                _ => return None,
            }
        }
    }

    /// The name at the root of a chain of selections.
    pub(crate) fn root_name(&self, id: ExprId) -> Option<&str> {
        let mut at = id;
        loop {
            match self.expr(at) {
                Expr::Ident(name) => return Some(name),
                Expr::Select { operand, .. } => at = *operand,
                _ => return None,
            }
        }
    }
}
