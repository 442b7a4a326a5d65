//! The functions of the language, library by library, as declarations (for the checker) and code (for the evaluator).
//! Which version of Kubernetes has which library stands in [`crate::env`].

pub mod authz;
pub(crate) mod cidr;
pub(crate) mod convert;
pub(crate) mod encoders;
pub(crate) mod format;
pub(crate) mod formatting;
pub(crate) mod go;
pub(crate) mod ip;
pub(crate) mod jsonpatch;
pub(crate) mod k8s_lists;
pub(crate) mod lists;
pub(crate) mod math;
pub(crate) mod operators;
pub(crate) mod optionals;
pub(crate) mod quantity;
pub(crate) mod regex;
pub(crate) mod semver;
pub(crate) mod sets;
pub(crate) mod standard;
pub(crate) mod strings;
pub(crate) mod time;
pub(crate) mod url;

use std::{collections::HashMap, sync::Arc};

use crate::{
    error::{EvalError, Fallible},
    machine::Machine,
    types::Type,
    value::Value,
};

/// The code of an overload. Its arguments are of the declared types, the receiver first.
pub(crate) type Run = for<'a> fn(&mut Machine<'a>, &[Value<'a>]) -> Fallible<Value<'a>>;

/// How an overload is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `f(x)`.
    Global,
    /// `x.f()`.
    Member,
}

/// One meaning of a function.
#[derive(Clone, Debug)]
pub(crate) struct Overload {
    /// cel-go's name of it, by which cost is counted.
    pub(crate) id: &'static str,
    pub(crate) style: Style,
    pub(crate) params: Arc<[Type]>,
    pub(crate) result: Type,
    pub(crate) run: Run,
}

/// All meanings of a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Function {
    pub(crate) overloads: Vec<Overload>,
}

/// The functions and types of an environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Library {
    functions: HashMap<&'static str, Function>,
    types: HashMap<&'static str, Type>,
}

impl Library {
    pub(crate) fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)
    }

    /// The name of a function as it lives in the program.
    pub(crate) fn function_name(&self, name: &str) -> Option<&'static str> {
        self.functions.get_key_value(name).map(|(name, _)| *name)
    }

    pub(crate) fn type_named(&self, name: &str) -> Option<&Type> {
        self.types.get(name)
    }

    pub(crate) fn declare_type(&mut self, name: &'static str, of: Type) {
        self.types.insert(name, of);
    }

    /// Adds `name(params…)`.
    pub(crate) fn global<const N: usize>(
        &mut self,
        name: &'static str,
        id: &'static str,
        params: [Type; N],
        result: Type,
        run: Run,
    ) {
        self.add(name, id, Style::Global, params.into(), result, run);
    }

    /// Adds `params[0].name(params[1..]…)`.
    pub(crate) fn member<const N: usize>(
        &mut self,
        name: &'static str,
        id: &'static str,
        params: [Type; N],
        result: Type,
        run: Run,
    ) {
        self.add(name, id, Style::Member, params.into(), result, run);
    }

    fn add(
        &mut self,
        name: &'static str,
        id: &'static str,
        style: Style,
        params: Arc<[Type]>,
        result: Type,
        run: Run,
    ) {
        let overloads = &mut self.functions.entry(name).or_default().overloads;
        // A later version of a library replaces what an earlier one declared.
        overloads.retain(|known| known.id != id);
        overloads.push(Overload { id, style, params, result, run });
    }
}

/// The code of operators, which the evaluator runs itself.
pub(crate) fn built_in<'a>(_: &mut Machine<'a>, _: &[Value<'a>]) -> Fallible<Value<'a>> {
    Err(EvalError::no_overload())
}

/// The text of an argument.
pub(crate) fn text<'v>(args: &'v [Value<'_>], index: usize) -> Fallible<&'v str> {
    match args.get(index) {
        Some(Value::String(text)) => Ok(text.as_str()),
        _ => Err(EvalError::no_overload()),
    }
}

/// The whole number of an argument.
pub(crate) fn int(args: &[Value<'_>], index: usize) -> Fallible<i64> {
    match args.get(index) {
        Some(Value::Int(number)) => Ok(*number),
        _ => Err(EvalError::no_overload()),
    }
}

/// The list of an argument.
pub(crate) fn list<'v, 'a>(
    args: &'v [Value<'a>],
    index: usize,
) -> Fallible<&'v crate::list::List<'a>> {
    match args.get(index) {
        Some(Value::List(list)) => Ok(list),
        _ => Err(EvalError::no_overload()),
    }
}
