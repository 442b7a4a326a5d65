//! What the API server refuses beyond types: list and map literals of mixed types, and literal durations, times and
//! regular expressions that are none. Lists that are formatted may be mixed.

use crate::{
    ast::{Entry, Expr, ExprId, Item, Literal, Presence},
    check::Checked,
    env::Env,
    error::CompileError,
    library::formatting::Clause,
    re2,
    time::{Duration, Timestamp},
    types::Type,
};

/// The mistakes of a checked expression.
pub(crate) fn validate(checked: &Checked, env: &Env) -> Vec<CompileError> {
    let mut validator = Validator { checked, errors: Vec::new() };
    let exempt = exempt_literals(checked);
    for id in 0..u32::try_from(checked.ast.len()).unwrap_or(u32::MAX) {
        match checked.ast.expr(id) {
            Expr::List { items } if env.profile.homogeneous && !exempt[id as usize] => {
                validator.check_items(items);
            }
            Expr::Map { entries } if env.profile.homogeneous && !exempt[id as usize] => {
                validator.check_entries(entries);
            }
            Expr::Call { function, target: Some(target), args }
                if env.profile.literals && function == "format" =>
            {
                validator.check_format(id, *target, args);
            }
            Expr::Call { function, args, .. } if env.profile.literals => {
                validator.check_literal(function, args);
            }
            _ => {}
        }
    }
    validator.errors
}

struct Validator<'c> {
    checked: &'c Checked,
    errors: Vec<CompileError>,
}

impl Validator<'_> {
    fn error(&mut self, id: ExprId, message: String) {
        let ast = &self.checked.ast;
        self.errors.push(CompileError::at(&ast.source, ast.offset(id), message));
    }

    fn type_of(&self, id: ExprId, presence: Presence) -> Type {
        match (self.checked.type_of(id), presence) {
            (Type::Optional(inner), Presence::Optional) => inner.as_ref().clone(),
            (of, _) => of.clone(),
        }
    }

    fn mismatch(&mut self, id: ExprId, wanted: &Type, found: &Type) {
        self.error(id, format!("expected type '{wanted}' but found '{found}'"));
    }

    fn check_items(&mut self, items: &[Item]) {
        let mut wanted: Option<Type> = None;
        for item in items {
            let found = self.type_of(item.value, item.presence);
            match &wanted {
                None => wanted = Some(found),
                Some(wanted) if !is_equivalent(wanted, &found) => {
                    let wanted = wanted.clone();
                    self.mismatch(item.value, &wanted, &found);
                    return;
                }
                Some(_) => {}
            }
        }
    }

    fn check_entries(&mut self, entries: &[Entry]) {
        let mut wanted: Option<(Type, Type)> = None;
        for entry in entries {
            let key = self.type_of(entry.key, Presence::Required);
            let value = self.type_of(entry.value, entry.presence);
            let Some((wanted_key, wanted_value)) = wanted.clone() else {
                wanted = Some((key, value));
                continue;
            };
            if !is_equivalent(&wanted_key, &key) {
                self.mismatch(entry.key, &wanted_key, &key);
            }
            if !is_equivalent(&wanted_value, &value) {
                self.mismatch(entry.value, &wanted_value, &value);
            }
        }
    }

    /// A literal pattern with a literal list: its clauses against the types of the items.
    fn check_format(&mut self, call: ExprId, target: ExprId, args: &[ExprId]) {
        let checked = self.checked;
        let Expr::Literal(Literal::String(pattern)) = checked.ast.expr(target) else { return };
        let Some(Expr::List { items }) = args.first().map(|list| checked.ast.expr(*list)) else {
            return;
        };
        let mut rest = pattern.as_str();
        let mut next = 0;
        while let Some(at) = rest.find('%') {
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                rest = after;
                continue;
            }
            if rest.is_empty() {
                self.error(call, "unexpected end of string".to_owned());
                return;
            }
            let Some(item) = items.get(next) else {
                self.error(call, format!("index {next} out of range"));
                return;
            };
            next += 1;
            match Clause::parse(rest) {
                Ok((clause, after)) => {
                    rest = after;
                    if let Err((at, reason)) = self.check_clause(clause, item.value) {
                        self.error(at, format!("error during formatting: {reason}"));
                        return;
                    }
                }
                Err(reason) => {
                    self.error(call, format!("could not parse formatting clause: {reason}"));
                    return;
                }
            }
        }
        if next < items.len() {
            self.error(
                call,
                format!(
                    "too many arguments supplied to string.format (expected {next}, got {})",
                    items.len()
                ),
            );
        }
    }

    /// Whether a clause can write an argument; `%s` of a literal list or map writes each part.
    fn check_clause(&self, clause: Clause, id: ExprId) -> Result<(), (ExprId, String)> {
        clause.check(self.checked.type_of(id)).map_err(|reason| (id, reason))?;
        if clause != Clause::String {
            return Ok(());
        }
        match self.checked.ast.expr(id) {
            Expr::List { items } => {
                items.iter().try_for_each(|item| self.check_clause(clause, item.value))
            }
            Expr::Map { entries } => entries.iter().try_for_each(|entry| {
                self.check_clause(clause, entry.key)?;
                self.check_clause(clause, entry.value)
            }),
            _ => Ok(()),
        }
    }

    fn check_literal(&mut self, function: &str, args: &[ExprId]) {
        let Some(argument) = args.first() else { return };
        let text = match self.checked.ast.expr(*argument) {
            Expr::Literal(Literal::String(text)) => text,
            // No literal but text is a span of time.
            Expr::Literal(_) if function == "duration" => {
                return self.error(*argument, format!("invalid {function} argument"));
            }
            _ => return,
        };
        let valid = match function {
            "duration" => Duration::parse(text).is_some(),
            "timestamp" => matches!(Timestamp::parse(text), Ok(Some(_))),
            "matches" => re2::compile(text).is_ok(),
            _ => true,
        };
        if !valid {
            self.error(*argument, format!("invalid {function} argument"));
        }
    }
}

/// Whether two types are the same where neither is a free parameter.
fn is_equivalent(one: &Type, two: &Type) -> bool {
    match (one, two) {
        (Type::List(one), Type::List(two)) | (Type::Optional(one), Type::Optional(two)) => {
            is_equivalent(one, two)
        }
        (Type::Map(key, value), Type::Map(other_key, other_value)) => {
            is_equivalent(key, other_key) && is_equivalent(value, other_value)
        }
        (Type::Type(_), Type::Type(_)) => true,
        (one, two) => one == two,
    }
}

/// Which nodes lie within the arguments of `format`.
fn exempt_literals(checked: &Checked) -> Vec<bool> {
    let ast = &checked.ast;
    let count = u32::try_from(ast.len()).unwrap_or(u32::MAX);
    let mut exempt = vec![false; ast.len()];
    // Parents come after their children: from the last to the first each hands on what it is.
    for id in (0..count).rev() {
        let expr = ast.expr(id);
        let inside = exempt[id as usize]
            || matches!(expr, Expr::Call { function, .. } if function == "format");
        if !inside {
            continue;
        }
        for child in children(expr) {
            exempt[child as usize] = true;
        }
    }
    exempt
}

fn children(expr: &Expr) -> Vec<ExprId> {
    match expr {
        Expr::Literal(_) | Expr::Ident(_) => Vec::new(),
        Expr::Select { operand, .. } => vec![*operand],
        Expr::Call { target, args, .. } => target.iter().chain(args).copied().collect(),
        Expr::List { items } => items.iter().map(|item| item.value).collect(),
        Expr::Map { entries } => {
            entries.iter().flat_map(|entry| [entry.key, entry.value]).collect()
        }
        Expr::Struct { fields, .. } => fields.iter().map(|field| field.value).collect(),
        Expr::Fold(fold) => {
            [Some(fold.range), fold.filter, Some(fold.body)].into_iter().flatten().collect()
        }
        Expr::Bind { init, body, .. } => vec![*init, *body],
        Expr::OptMap { target, body, .. } => vec![*target, *body],
    }
}
