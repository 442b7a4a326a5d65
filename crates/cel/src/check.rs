//! The checker: gives every node a type, every name a meaning, every call its overloads. Types are gradual: `dyn` fits
//! everywhere and is judged when it runs. Long chains are walked along their spine, not by recursion.

mod macros;

use std::sync::Arc;

use crate::{
    ast::{Ast, Expr, ExprId, Literal, Presence, Test},
    env::Env,
    error::CompileError,
    library::{Function, Style, standard},
    types::{Substitution, Type, Unbound},
    validate,
};

/// Whether types are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// What does not fit is an error.
    Checked,
    /// Everything is `dyn`; only names are resolved.
    Gradual,
}

/// What a node refers to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reference {
    /// Nothing beyond its own kind.
    None,
    /// A variable of the environment, by its place in [`Checked::globals`].
    Global(u32),
    /// A variable of a macro, by its depth.
    Local(u32),
    /// A type.
    TypeName(Arc<str>),
    /// Overloads of a function.
    Call { function: &'static str, overloads: Vec<usize>, receiver: Receiver },
    /// Nothing that is known: errs when it runs.
    Unknown(String),
}

/// What becomes of the target of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// It is the first argument.
    Argument,
    /// It was part of the function's name.
    Namespace,
}

/// A checked expression.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) ast: Ast,
    pub(crate) types: Vec<Type>,
    pub(crate) references: Vec<Reference>,
    /// The variables that it reads.
    pub(crate) globals: Vec<Arc<str>>,
    pub(crate) mode: Mode,
}

impl Checked {
    pub(crate) fn type_of(&self, id: ExprId) -> &Type {
        self.types.get(id as usize).unwrap_or(&Type::Dyn)
    }

    pub(crate) fn reference(&self, id: ExprId) -> &Reference {
        self.references.get(id as usize).unwrap_or(&Reference::None)
    }
}

impl Checked {
    /// Variables of macros that hold types: cel-go looks for types of their names, and finds none.
    fn types_as_variables(&self) -> Vec<CompileError> {
        let ids = 0..u32::try_from(self.types.len()).unwrap_or(u32::MAX);
        ids.filter_map(|id| match (self.reference(id), self.type_of(id), self.ast.expr(id)) {
            (Reference::Local(_), Type::Type(_), Expr::Ident(name)) => {
                let message = format!("reference to undefined type: {name}");
                Some(CompileError::at(&self.ast.source, self.ast.offset(id), message))
            }
            _ => None,
        })
        .collect()
    }
}

/// Checks a parsed expression against an environment.
pub(crate) fn check(ast: Ast, env: &Env, mode: Mode) -> Result<Checked, Vec<CompileError>> {
    let count = ast.len();
    let longest_name =
        env.variables.keys().map(|name| name.matches('.').count() + 1).max().unwrap_or(1);
    let mut checker = Checker {
        env,
        mode,
        ast: &ast,
        types: vec![None; count],
        references: vec![Reference::None; count],
        globals: Vec::new(),
        locals: Vec::new(),
        variables: Substitution::default(),
        errors: Vec::new(),
        scoped: false,
        // `google.protobuf.Timestamp` is the longest name of a type.
        longest_name: longest_name.max(3) + env.container.matches('.').count() + 1,
    };
    checker.check(ast.root);
    let Checker { types, references, globals, variables, mut errors, .. } = checker;
    let types: Vec<Type> = types
        .into_iter()
        .map(|of| variables.resolve(&of.unwrap_or(Type::Dyn), Unbound::Dyn))
        .collect();
    let checked = Checked { ast, types, references, globals, mode };
    if errors.is_empty() && mode == Mode::Checked {
        errors = checked.types_as_variables();
    }
    if errors.is_empty() && mode == Mode::Checked {
        errors = validate::validate(&checked, env);
    }
    if errors.is_empty() {
        return Ok(checked);
    }
    errors.sort_by_key(|error| (error.line, error.column));
    errors.dedup();
    Err(errors)
}

struct Checker<'e> {
    env: &'e Env,
    mode: Mode,
    ast: &'e Ast,
    types: Vec<Option<Type>>,
    references: Vec<Reference>,
    globals: Vec<Arc<str>>,
    locals: Vec<(String, Type)>,
    variables: Substitution,
    errors: Vec<CompileError>,
    /// Whether a macro was entered: from there on, cel-go forgets that numbers of two types have no order.
    scoped: bool,
    longest_name: usize,
}

impl Checker<'_> {
    /// Checks a node: its spine from the inside out, everything beside it by recursion.
    fn check(&mut self, id: ExprId) {
        let mut spine = vec![id];
        let mut at = id;
        while let Some(inner) = self.spine_child(at) {
            if self.known(inner).is_some() {
                break;
            }
            spine.push(inner);
            at = inner;
        }
        while let Some(at) = spine.pop() {
            if self.known(at).is_none() {
                self.check_node(at);
            }
        }
    }

    fn known(&self, id: ExprId) -> Option<&Type> {
        self.types.get(id as usize).and_then(Option::as_ref)
    }

    /// The child that a chain of operators, calls or selections continues with.
    fn spine_child(&self, id: ExprId) -> Option<ExprId> {
        match self.ast.expr(id) {
            Expr::Select { operand, test, .. } => {
                let is_name = *test == Test::Value && self.qualified(id).is_some();
                (!is_name).then_some(*operand)
            }
            Expr::Call { target: Some(target), function, .. } => {
                self.namespaced(*target, function).is_none().then_some(*target)
            }
            Expr::Call { target: None, args, .. } => args.first().copied(),
            Expr::Fold(fold) => Some(fold.range),
            Expr::OptMap { target, .. } => Some(*target),
            _ => None,
        }
    }

    fn type_of(&mut self, id: ExprId) -> Type {
        self.check(id);
        self.known(id).cloned().unwrap_or(Type::Dyn)
    }

    fn resolved(&mut self, id: ExprId) -> Type {
        let of = self.type_of(id);
        self.variables.resolve(&of, Unbound::Keep)
    }

    fn set(&mut self, id: ExprId, of: Type) {
        let of = if self.mode == Mode::Gradual { Type::Dyn } else { of };
        if let Some(slot) = self.types.get_mut(id as usize) {
            *slot = Some(of);
        }
    }

    fn refer(&mut self, id: ExprId, reference: Reference) {
        if let Some(slot) = self.references.get_mut(id as usize) {
            *slot = reference;
        }
    }

    fn error(&mut self, id: ExprId, message: impl Into<String>) {
        self.error_at(self.ast.offset(id), message);
    }

    fn error_at(&mut self, offset: u32, message: impl Into<String>) {
        if self.mode == Mode::Checked {
            self.errors.push(CompileError::at(&self.ast.source, offset, message));
        }
    }

    fn mismatch(&mut self, id: ExprId, wanted: &Type, found: &Type) {
        let wanted = self.variables.resolve(wanted, Unbound::Keep);
        let found = self.variables.resolve(found, Unbound::Keep);
        self.error(id, format!("expected type '{wanted}' but found '{found}'"));
    }

    fn undeclared(&mut self, id: ExprId, name: &str) {
        let message =
            format!("undeclared reference to '{name}' (in container '{}')", self.env.container);
        self.error(id, message.clone());
        self.refer(id, Reference::Unknown(message));
        self.set(id, Type::Error);
    }

    fn check_node(&mut self, id: ExprId) {
        match self.ast.expr(id) {
            Expr::Literal(literal) => {
                let of = literal_type(literal);
                self.set(id, of);
            }
            Expr::Ident(name) => self.check_ident(id, name),
            Expr::Select { operand, field, test } => self.check_select(id, *operand, field, *test),
            Expr::Call { function, target, args } => self.check_call(id, function, *target, args),
            Expr::List { .. } => self.check_list(id),
            Expr::Map { .. } => self.check_map(id),
            Expr::Struct { .. } => self.check_struct(id),
            Expr::Fold(fold) => self.check_fold(id, fold),
            Expr::Bind { name, init, body } => {
                let of = self.type_of(*init);
                let result = self.within([(name.clone(), of)], |checker| checker.type_of(*body));
                self.set(id, result);
            }
            Expr::OptMap { target, name, body, result } => {
                self.check_opt_map(id, *target, name, *body, *result);
            }
        }
    }

    fn within<T>(
        &mut self,
        locals: impl IntoIterator<Item = (String, Type)>,
        work: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let depth = self.locals.len();
        self.locals.extend(locals);
        self.scoped = true;
        let result = work(self);
        self.locals.truncate(depth);
        result
    }

    /// What a simple or dotted name stands for outside of macros.
    fn lookup(&self, name: &str) -> Option<(Reference, Type)> {
        for candidate in self.env.candidates(name) {
            if let Some((name, of)) = self.env.variables.get_key_value(candidate.as_str()) {
                let known = self.globals.iter().position(|global| global == name);
                let at = known.unwrap_or(self.globals.len());
                return Some((Reference::Global(u32::try_from(at).ok()?), of.clone()));
            }
            if let Some(of) = self.env.library.type_named(&candidate) {
                let reference = Reference::TypeName(Arc::from(candidate.as_str()));
                return Some((reference, Type::type_of(of.clone())));
            }
            if self.env.objects.knows(&candidate) {
                let name: Arc<str> = Arc::from(candidate.as_str());
                return Some((
                    Reference::TypeName(name.clone()),
                    Type::type_of(Type::Object(name)),
                ));
            }
        }
        None
    }

    fn resolve_name(&mut self, id: ExprId, name: &str) -> bool {
        let Some((reference, of)) = self.lookup(name) else { return false };
        if let Reference::Global(at) = reference
            && at as usize == self.globals.len()
        {
            let full = self
                .env
                .candidates(name)
                .into_iter()
                .find(|candidate| self.env.variables.contains_key(candidate.as_str()));
            self.globals.push(Arc::from(full.unwrap_or_default()));
        }
        self.refer(id, reference);
        self.set(id, of);
        true
    }

    fn check_ident(&mut self, id: ExprId, name: &str) {
        let local = self.locals.iter().rposition(|(local, _)| local == name);
        if let Some(depth) = local {
            let of = self.locals[depth].1.clone();
            self.refer(id, Reference::Local(u32::try_from(depth).unwrap_or(u32::MAX)));
            self.set(id, of);
            return;
        }
        if !self.resolve_name(id, name) {
            self.undeclared(id, name);
        }
    }

    /// The dotted name of a selection that is declared as a whole, unless a macro's variable shadows its root.
    fn qualified(&self, id: ExprId) -> Option<String> {
        let mut at = id;
        for _ in 0..self.longest_name {
            match self.ast.expr(at) {
                Expr::Ident(root) => {
                    if self.locals.iter().any(|(local, _)| local == root) {
                        return None;
                    }
                    let name = self.ast.qualified_name(id)?;
                    return self.lookup(&name).is_some().then_some(name);
                }
                Expr::Select { operand, test: Test::Value, .. } => at = *operand,
                _ => return None,
            }
        }
        None
    }

    fn check_select(&mut self, id: ExprId, operand: ExprId, field: &str, test: Test) {
        if test == Test::Value
            && let Some(name) = self.qualified(id)
            && self.resolve_name(id, &name)
        {
            return;
        }
        let field_type = self.select_field(id, operand, field);
        let of = if test == Test::Presence { Type::Bool } else { field_type };
        self.set(id, of);
    }

    fn select_field(&mut self, id: ExprId, operand: ExprId, field: &str) -> Type {
        let operand_type = self.resolved(operand);
        if let Type::Optional(inner) = &operand_type {
            let inner = inner.as_ref().clone();
            return Type::optional(self.field_of(id, &inner, field));
        }
        self.field_of(id, &operand_type, field)
    }

    fn field_of(&mut self, id: ExprId, of: &Type, field: &str) -> Type {
        match of {
            Type::Map(_, value) => value.as_ref().clone(),
            Type::Object(name) => self.env.objects.field(name, field).unwrap_or_else(|| {
                self.error(id, format!("undefined field '{field}'"));
                Type::Error
            }),
            Type::Var(_) => {
                self.variables.assign(&Type::Dyn, of);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.error(id, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        }
    }

    /// The function that a target and a name spell together: `sets.contains`.
    fn namespaced(&self, target: ExprId, function: &str) -> Option<&'static str> {
        let root = self.ast.root_name(target)?;
        if self.locals.iter().any(|(local, _)| local == root) {
            return None;
        }
        let mut at = target;
        for _ in 0..4 {
            match self.ast.expr(at) {
                Expr::Ident(_) => {
                    let name = format!("{}.{function}", self.ast.qualified_name(target)?);
                    return self.function(&name);
                }
                Expr::Select { operand, test: Test::Value, .. } => at = *operand,
                _ => return None,
            }
        }
        None
    }

    fn function(&self, name: &str) -> Option<&'static str> {
        self.env
            .candidates(name)
            .iter()
            .find_map(|candidate| self.env.library.function_name(candidate))
    }

    fn check_call(&mut self, id: ExprId, function: &str, target: Option<ExprId>, args: &[ExprId]) {
        if function == "_?._" {
            self.check_optional_select(id, args);
            return;
        }
        for argument in args {
            self.check(*argument);
        }
        let Some(target) = target else {
            match self.function(function) {
                Some(name) => self.resolve_call(id, name, None, args, Receiver::Argument),
                None => self.undeclared(id, function),
            }
            return;
        };
        if let Some(name) = self.namespaced(target, function) {
            self.resolve_call(id, name, None, args, Receiver::Namespace);
            return;
        }
        self.check(target);
        match self.env.library.function_name(function) {
            Some(name) => self.resolve_call(id, name, Some(target), args, Receiver::Argument),
            None => self.undeclared(id, function),
        }
    }

    fn check_optional_select(&mut self, id: ExprId, args: &[ExprId]) {
        let [operand, field] = args else {
            self.error(id, "unsupported optional field selection");
            self.set(id, Type::Error);
            return;
        };
        let Expr::Literal(Literal::String(field_name)) = self.ast.expr(*field) else {
            self.error(*field, "unsupported optional field selection");
            self.set(id, Type::Error);
            return;
        };
        let operand = match self.resolved(*operand) {
            Type::Optional(inner) => inner.as_ref().clone(),
            other => other,
        };
        let of = Type::optional(self.field_of(id, &operand, field_name));
        self.set(*field, Type::String);
        self.set(id, of);
    }

    fn resolve_call(
        &mut self,
        id: ExprId,
        name: &'static str,
        target: Option<ExprId>,
        args: &[ExprId],
        receiver: Receiver,
    ) {
        let style = if target.is_some() { Style::Member } else { Style::Global };
        let given: Vec<Type> =
            target.iter().chain(args).map(|argument| self.type_of(*argument)).collect();
        let env = self.env;
        let Some(function) = env.library.function(name) else {
            self.undeclared(id, name);
            return;
        };
        if matches!(name, "_&&_" | "_||_") && !self.check_terms(args, &given) {
            self.refer(id, Reference::Unknown("no such overload".to_owned()));
            self.set(id, Type::Error);
            return;
        }
        let (overloads, result) = self.resolve_overloads(name, function, style, &given);
        let Some(result) = result else {
            let shown: Vec<String> = given
                .iter()
                .map(|of| self.variables.resolve(of, Unbound::Dyn).to_string())
                .collect();
            let signature = match (style, shown.split_first()) {
                (Style::Member, Some((target, args))) => format!("{target}.({})", args.join(", ")),
                _ => format!("({})", shown.join(", ")),
            };
            self.error(
                id,
                format!("found no matching overload for '{name}' applied to '{signature}'"),
            );
            self.refer(id, Reference::Unknown("no such overload".to_owned()));
            self.set(id, Type::Error);
            return;
        };
        self.refer(id, Reference::Call { function: name, overloads, receiver });
        self.set(id, result);
    }

    /// Whether all terms of `&&` or `||` are truth; each that is not is told on its own.
    fn check_terms(&mut self, terms: &[ExprId], given: &[Type]) -> bool {
        let mut all = true;
        for (term, of) in terms.iter().zip(given) {
            if !self.variables.assign(of, &Type::Bool) {
                self.mismatch(*term, &Type::Bool, of);
                all = false;
            }
        }
        all || self.mode == Mode::Gradual
    }

    fn resolve_overloads(
        &mut self,
        name: &str,
        function: &Function,
        style: Style,
        given: &[Type],
    ) -> (Vec<usize>, Option<Type>) {
        let ordered = self.env.profile.cross_type_order || self.scoped;
        let mut fitting = Vec::new();
        let mut result: Option<Type> = None;
        for (at, overload) in function.overloads.iter().enumerate() {
            if overload.style != style || overload.params.len() != given.len() {
                continue;
            }
            if !ordered && standard::is_across(name, &overload.params) {
                continue;
            }
            let mut named = Vec::new();
            let params: Vec<Type> =
                overload.params.iter().map(|param| self.instantiate(param, &mut named)).collect();
            let overload_result = self.instantiate(&overload.result, &mut named);
            if !self.variables.assign_all(given, &params) {
                continue;
            }
            fitting.push(at);
            let overload_result = self.variables.resolve(&overload_result, Unbound::Keep);
            result = Some(match result {
                None => overload_result,
                Some(known) if known.is_dyn() || known == overload_result => known,
                Some(_) => Type::Dyn,
            });
        }
        (fitting, result)
    }

    /// A declared type with its parameters as fresh variables.
    fn instantiate(&mut self, of: &Type, named: &mut Vec<(&'static str, Type)>) -> Type {
        match of {
            Type::Param(name) => {
                if let Some((_, variable)) = named.iter().find(|(known, _)| known == name) {
                    return variable.clone();
                }
                let variable = self.variables.fresh();
                named.push((name, variable.clone()));
                variable
            }
            Type::List(element) => Type::list(self.instantiate(element, named)),
            Type::Map(key, value) => {
                let key = self.instantiate(key, named);
                Type::map(key, self.instantiate(value, named))
            }
            Type::Optional(value) => Type::optional(self.instantiate(value, named)),
            Type::Type(inner) => Type::type_of(self.instantiate(inner, named)),
            other => other.clone(),
        }
    }

    /// The type of an item that may be absent, when it is written as `?item`.
    fn item_type(&mut self, value: ExprId, presence: Presence) -> Type {
        let of = self.type_of(value);
        if presence == Presence::Required {
            return of;
        }
        match self.variables.resolve(&of, Unbound::Keep) {
            Type::Optional(inner) => inner.as_ref().clone(),
            Type::Dyn => Type::Dyn,
            other => {
                self.mismatch(value, &Type::optional(other.clone()), &other);
                other
            }
        }
    }

    fn join(&mut self, previous: Option<Type>, current: Type) -> Type {
        let Some(previous) = previous else { return current };
        if !self.variables.assign(&previous, &current) {
            return Type::Dyn;
        }
        let one = self.variables.resolve(&previous, Unbound::Keep);
        let two = self.variables.resolve(&current, Unbound::Keep);
        if self.variables.is_less_specific(&one, &two) { previous } else { current }
    }

    fn check_list(&mut self, id: ExprId) {
        let Expr::List { items } = self.ast.expr(id) else { return };
        let mut element = None;
        for item in items {
            let of = self.item_type(item.value, item.presence);
            element = Some(self.join(element, of));
        }
        let element = element.unwrap_or_else(|| self.variables.fresh());
        self.set(id, Type::list(element));
    }

    fn check_map(&mut self, id: ExprId) {
        let Expr::Map { entries } = self.ast.expr(id) else { return };
        let (mut key, mut value) = (None, None);
        for entry in entries {
            let of = self.type_of(entry.key);
            key = Some(self.join(key, of));
            let of = self.item_type(entry.value, entry.presence);
            value = Some(self.join(value, of));
        }
        let key = key.unwrap_or_else(|| self.variables.fresh());
        let value = value.unwrap_or_else(|| self.variables.fresh());
        self.set(id, Type::map(key, value));
    }

    fn check_struct(&mut self, id: ExprId) {
        let Expr::Struct { name, fields } = self.ast.expr(id) else { return };
        let known = match self.lookup(name) {
            Some((Reference::TypeName(known), Type::Type(of))) => match of.as_ref() {
                Type::Object(_) => Some(known),
                _ => {
                    self.error(id, format!("'{name}' is not a message type"));
                    None
                }
            },
            Some(_) => {
                self.error(id, format!("'{name}' is not a type"));
                None
            }
            None => {
                self.undeclared(id, name);
                None
            }
        };
        for field in fields {
            let given = self.item_type(field.value, field.presence);
            let Some(known) = &known else { continue };
            match self.env.objects.field(known, &field.name) {
                None => {
                    self.error_at(field.offset, format!("undefined field '{}'", field.name));
                }
                Some(wanted) if !self.variables.assign(&wanted, &given) => {
                    let given = self.variables.resolve(&given, Unbound::Keep);
                    self.error_at(
                        field.offset,
                        format!(
                            "expected type of field '{}' is '{wanted}' but provided type is '{given}'",
                            field.name
                        ),
                    );
                }
                Some(_) => {}
            }
        }
        if let Some(known) = known {
            self.refer(id, Reference::TypeName(known.clone()));
            self.set(id, Type::Object(known));
        } else {
            self.set(id, Type::Error);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
