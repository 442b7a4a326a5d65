//! From source to tree: the `cel` crate's parser reads, this file expands the macros of the environment. Deep input
//! costs stack in the parser, so callers come through [`crate::stack`].

use cel::{
    common::ast::{EntryExpr, Expr as Parsed, IdedEntryExpr, IdedExpr, LiteralValue, SourceInfo},
    parser::ParseErrors,
};

use crate::{
    ast::{
        Ast, Entry, Expr, ExprId, Field, Fold, FoldKind, Item, Literal, OptResult, Presence, Test,
    },
    error::CompileError,
    profile::Profile,
};

/// How deep expressions may nest: cel-go's default.
const MAX_DEPTH: u16 = 250;
/// The longest expression in bytes.
pub(crate) const MAX_SOURCE: usize = 16 * 1024;
/// So many mistakes are told of one expression.
const MAX_ERRORS: usize = 20;
/// What the parser says of an expression that nests deeper.
const TOO_DEEP: &str = "Recursion limit";
/// The names that cel-go gives its accumulators.
const ACCUMULATORS: &[&str] = &["__result__", "@result"];

/// Reads an expression and expands its macros.
pub(crate) fn parse(source: &str, profile: &Profile) -> Result<Ast, Vec<CompileError>> {
    if source.len() > MAX_SOURCE {
        let message = format!(
            "expression is {} bytes long, more than the limit of {MAX_SOURCE}: split it into variables",
            source.len()
        );
        return Err(vec![CompileError::at(source, 0, message)]);
    }
    let parser = cel::Env::default()
        .with_optional_support(profile.optionals)
        .parser()
        .enable_ident_escape_syntax(profile.escaped_names)
        .max_recursion_depth(MAX_DEPTH);
    let (parsed, info) =
        parser.parse_with_source_info(source).map_err(|errors| syntax_errors(source, &errors))?;
    let mut lowering = Lowering { ast: Ast::new(source), info, profile, errors: Vec::new() };
    let root = lowering.expr(&parsed);
    lowering.ast.root = root;
    if lowering.errors.is_empty() {
        Ok(lowering.ast)
    } else {
        lowering.errors.truncate(MAX_ERRORS);
        Err(lowering.errors)
    }
}

fn syntax_errors(source: &str, errors: &ParseErrors) -> Vec<CompileError> {
    let mut told: Vec<CompileError> = errors
        .errors
        .iter()
        .take(MAX_ERRORS)
        .map(|error| {
            let nested = error.source.as_ref().map(|cause| cause.to_string());
            let message = match nested {
                Some(cause) if error.msg == "UNKNOWN" => format!("Syntax error: {cause}"),
                _ => error.msg.clone(),
            };
            let line = u32::try_from(error.pos.0.max(1)).unwrap_or(1);
            let column = u32::try_from(error.pos.1.max(1)).unwrap_or(1);
            let snippet = source.lines().nth(line as usize - 1).unwrap_or_default().to_owned();
            CompileError { line, column, message, snippet }
        })
        .collect();
    if told.is_empty() {
        told.push(CompileError::at(source, 0, "Syntax error: cannot be read"));
    }
    // The parser goes on after its limit once a level, until it has done so too often.
    if let Some(deep) = told.iter().find(|error| error.message.contains(TOO_DEEP)) {
        let message = format!("expression recursion limit exceeded: {MAX_DEPTH}");
        return vec![CompileError { message, ..deep.clone() }];
    }
    told
}

struct Lowering<'p> {
    ast: Ast,
    info: SourceInfo,
    profile: &'p Profile,
    errors: Vec<CompileError>,
}

impl Lowering<'_> {
    fn offset(&self, id: u64) -> u32 {
        self.info.offset_for(id).map_or(0, |(start, _)| start)
    }

    fn error(&mut self, id: u64, message: impl Into<String>) {
        let error = CompileError::at(&self.ast.source, self.offset(id), message);
        self.errors.push(error);
    }

    fn add(&mut self, id: u64, expr: Expr) -> ExprId {
        let offset = self.offset(id);
        self.ast.add(expr, offset)
    }

    fn expr(&mut self, parsed: &IdedExpr) -> ExprId {
        let id = parsed.id;
        match &parsed.expr {
            Parsed::Unspecified | Parsed::Comprehension(_) => {
                self.error(id, "Syntax error: an expression is missing here");
                self.add(id, Expr::Literal(Literal::Null))
            }
            Parsed::Literal(value) => self.add(id, Expr::Literal(literal(value))),
            Parsed::Ident(name) => self.add(id, Expr::Ident(name.clone())),
            Parsed::Select(select) => {
                let operand = self.expr(&select.operand);
                let test = if select.test { Test::Presence } else { Test::Value };
                self.add(id, Expr::Select { operand, field: select.field.clone(), test })
            }
            Parsed::Call(call) => {
                if let Some(expanded) =
                    self.expand(id, &call.func_name, call.target.as_deref(), &call.args)
                {
                    return expanded;
                }
                let target = call.target.as_deref().map(|target| self.expr(target));
                let args = call.args.iter().map(|argument| self.expr(argument)).collect();
                self.add(id, Expr::Call { function: call.func_name.clone(), target, args })
            }
            Parsed::List(list) => {
                let items = list
                    .elements
                    .iter()
                    .enumerate()
                    .map(|(at, item)| Item {
                        value: self.expr(item),
                        presence: presence(list.optional_indices.contains(&at)),
                    })
                    .collect();
                self.add(id, Expr::List { items })
            }
            Parsed::Map(map) => {
                let entries = map.entries.iter().filter_map(|entry| self.entry(entry)).collect();
                self.add(id, Expr::Map { entries })
            }
            Parsed::Struct(object) => {
                let fields = object.entries.iter().filter_map(|entry| self.field(entry)).collect();
                self.add(id, Expr::Struct { name: object.type_name.clone(), fields })
            }
        }
    }

    fn entry(&mut self, entry: &IdedEntryExpr) -> Option<Entry> {
        let EntryExpr::MapEntry(entry) = &entry.expr else { return None };
        Some(Entry {
            key: self.expr(&entry.key),
            value: self.expr(&entry.value),
            presence: presence(entry.optional),
        })
    }

    fn field(&mut self, entry: &IdedEntryExpr) -> Option<Field> {
        let offset = self.offset(entry.id);
        let EntryExpr::StructField(field) = &entry.expr else { return None };
        Some(Field {
            name: field.field.clone(),
            value: self.expr(&field.value),
            presence: presence(field.optional),
            offset,
        })
    }

    /// The node that a macro stands for; `None` when the call is no macro of the environment.
    fn expand(
        &mut self,
        id: u64,
        function: &str,
        target: Option<&IdedExpr>,
        args: &[IdedExpr],
    ) -> Option<ExprId> {
        match (target, function, args) {
            (None, "has", [argument]) => Some(self.expand_has(id, argument)),
            (Some(range), "all", [variable, body]) => {
                Some(self.expand_fold(id, FoldKind::All, range, &[variable], None, body))
            }
            (Some(range), "exists", [variable, body]) => {
                Some(self.expand_fold(id, FoldKind::Exists, range, &[variable], None, body))
            }
            (Some(range), "exists_one", [variable, body]) => {
                Some(self.expand_fold(id, FoldKind::ExistsOne, range, &[variable], None, body))
            }
            (Some(range), "map", [variable, body]) => {
                Some(self.expand_fold(id, FoldKind::Map, range, &[variable], None, body))
            }
            (Some(range), "map", [variable, filter, body]) => {
                Some(self.expand_fold(id, FoldKind::Map, range, &[variable], Some(filter), body))
            }
            (Some(range), "filter", [variable, body]) => {
                Some(self.expand_fold(id, FoldKind::Filter, range, &[variable], None, body))
            }
            (Some(range), "sortBy", [variable, body]) if self.profile.sort_by => {
                Some(self.expand_fold(id, FoldKind::SortBy, range, &[variable], None, body))
            }
            (Some(target), "optMap", [variable, body]) if self.profile.optionals => {
                Some(self.expand_opt_map(id, OptResult::Value, target, variable, body))
            }
            (Some(target), "optFlatMap", [variable, body]) if self.profile.optionals => {
                Some(self.expand_opt_map(id, OptResult::Optional, target, variable, body))
            }
            (Some(target), "bind", [variable, init, body])
                if self.profile.bind && is_name(target, "cel") =>
            {
                Some(self.expand_bind(id, variable, init, body))
            }
            (Some(target), "greatest" | "least", args)
                if self.profile.math && is_name(target, "math") =>
            {
                Some(self.expand_extreme(id, function, args))
            }
            (Some(range), _, _) if self.profile.two_variables => {
                self.expand_two_variables(id, function, range, args)
            }
            _ => None,
        }
    }

    fn expand_has(&mut self, id: u64, argument: &IdedExpr) -> ExprId {
        if let Parsed::Select(select) = &argument.expr {
            let operand = self.expr(&select.operand);
            let field = select.field.clone();
            return self.add(id, Expr::Select { operand, field, test: Test::Presence });
        }
        self.error(argument.id, "invalid argument to has() macro");
        self.add(id, Expr::Literal(Literal::Null))
    }

    fn expand_two_variables(
        &mut self,
        id: u64,
        function: &str,
        range: &IdedExpr,
        args: &[IdedExpr],
    ) -> Option<ExprId> {
        let (one, two, filter, body) = match args {
            [one, two, body] => (one, two, None, body),
            [one, two, filter, body] => (one, two, Some(filter), body),
            _ => return None,
        };
        let kind = match (function, filter) {
            ("all", None) => FoldKind::All,
            ("exists", None) => FoldKind::Exists,
            ("exists_one" | "existsOne", None) => FoldKind::ExistsOne,
            ("transformList", _) => FoldKind::TransformList,
            ("transformMap", _) => FoldKind::TransformMap,
            ("transformMapEntry", _) => FoldKind::TransformMapEntry,
            _ => return None,
        };
        Some(self.expand_fold(id, kind, range, &[one, two], filter, body))
    }

    fn expand_fold(
        &mut self,
        id: u64,
        kind: FoldKind,
        range: &IdedExpr,
        variables: &[&IdedExpr],
        filter: Option<&IdedExpr>,
        body: &IdedExpr,
    ) -> ExprId {
        let names: Vec<String> =
            variables.iter().map(|variable| self.variable(variable, kind)).collect();
        if let [one, two] = names.as_slice()
            && one == two
        {
            self.error(variables[1].id, format!("duplicate variable name: {one}"));
        }
        let range = self.expr(range);
        let filter = filter.map(|filter| self.expr(filter));
        let body = self.expr(body);
        let mut names = names.into_iter();
        let variable = names.next().unwrap_or_default();
        let second = names.next();
        self.add(id, Expr::Fold(Fold { kind, range, variable, second, filter, body }))
    }

    fn variable(&mut self, variable: &IdedExpr, kind: FoldKind) -> String {
        let Parsed::Ident(name) = &variable.expr else {
            let message = match kind {
                FoldKind::Map | FoldKind::Filter => "argument is not an identifier",
                FoldKind::SortBy => "sortBy can only be applied with a simple variable name",
                _ => "argument must be a simple name",
            };
            self.error(variable.id, message);
            return String::new();
        };
        if name.starts_with('.') {
            self.error(variable.id, "argument must be a simple name");
        }
        if ACCUMULATORS.contains(&name.as_str()) {
            self.error(variable.id, "iteration variable overwrites accumulator variable");
        }
        name.clone()
    }

    fn expand_opt_map(
        &mut self,
        id: u64,
        result: OptResult,
        target: &IdedExpr,
        variable: &IdedExpr,
        body: &IdedExpr,
    ) -> ExprId {
        let target = self.expr(target);
        let name = match &variable.expr {
            Parsed::Ident(name) => name.clone(),
            _ => {
                let of = if result == OptResult::Value { "optMap" } else { "optFlatMap" };
                self.error(
                    variable.id,
                    format!("{of}() variable name must be a simple identifier"),
                );
                String::new()
            }
        };
        let body = self.expr(body);
        self.add(id, Expr::OptMap { target, name, body, result })
    }

    fn expand_bind(
        &mut self,
        id: u64,
        variable: &IdedExpr,
        init: &IdedExpr,
        body: &IdedExpr,
    ) -> ExprId {
        let Parsed::Ident(name) = &variable.expr else {
            self.error(variable.id, "cel.bind() variable names must be simple identifiers");
            return self.add(id, Expr::Literal(Literal::Null));
        };
        let init = self.expr(init);
        let body = self.expr(body);
        self.add(id, Expr::Bind { name: name.clone(), init, body })
    }

    /// `math.greatest(a, b, c)` is a call with one list, with two values, or with one.
    fn expand_extreme(&mut self, id: u64, function: &str, args: &[IdedExpr]) -> ExprId {
        for argument in args {
            let is_number = match &argument.expr {
                Parsed::Literal(value) => matches!(
                    value,
                    LiteralValue::Int(_) | LiteralValue::UInt(_) | LiteralValue::Double(_)
                ),
                Parsed::List(_) => args.len() == 1,
                Parsed::Map(_) | Parsed::Struct(_) => false,
                _ => true,
            };
            if !is_number {
                let message = if args.len() == 1 {
                    format!("math.{function}() invalid single argument value")
                } else {
                    format!("math.{function}() simple literal arguments must be numeric")
                };
                self.error(argument.id, message);
            }
        }
        if args.is_empty() {
            self.error(id, format!("math.{function}() requires at least one argument"));
        }
        let name = if function == "greatest" { "math.@max" } else { "math.@min" };
        let mut args: Vec<ExprId> = args.iter().map(|argument| self.expr(argument)).collect();
        if args.len() > 2 {
            let items = args
                .iter()
                .map(|value| Item { value: *value, presence: Presence::Required })
                .collect();
            args = vec![self.add(id, Expr::List { items })];
        }
        self.add(id, Expr::Call { function: name.to_owned(), target: None, args })
    }
}

fn presence(optional: bool) -> Presence {
    if optional { Presence::Optional } else { Presence::Required }
}

fn is_name(expr: &IdedExpr, wanted: &str) -> bool {
    matches!(&expr.expr, Parsed::Ident(name) if name == wanted)
}

fn literal(value: &LiteralValue) -> Literal {
    match value {
        LiteralValue::Null => Literal::Null,
        LiteralValue::Boolean(truth) => Literal::Bool(*truth.inner()),
        LiteralValue::Int(number) => Literal::Int(*number.inner()),
        LiteralValue::UInt(number) => Literal::Uint(*number.inner()),
        LiteralValue::Double(number) => Literal::Double(*number.inner()),
        LiteralValue::String(text) => Literal::String(text.inner().to_owned()),
        LiteralValue::Bytes(octets) => Literal::Bytes(octets.inner().to_vec()),
    }
}
