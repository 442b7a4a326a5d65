//! The set extension: lists compared as sets.

use super::{Library, list};
use crate::{error::Fallible, list::List, machine::Machine, types::Type, value::Value};

/// Declares the extension.
pub(crate) fn declare(library: &mut Library) {
    let of = || Type::list(Type::Param("T"));
    library.global(
        "sets.contains",
        "list_sets_contains_list",
        [of(), of()],
        Type::Bool,
        |machine, args| Ok(Value::Bool(contains(machine, list(args, 0)?, list(args, 1)?)?)),
    );
    library.global(
        "sets.equivalent",
        "list_sets_equivalent_list",
        [of(), of()],
        Type::Bool,
        |machine, args| {
            let (one, two) = (list(args, 0)?, list(args, 1)?);
            Ok(Value::Bool(contains(machine, one, two)? && contains(machine, two, one)?))
        },
    );
    library.global(
        "sets.intersects",
        "list_sets_intersects_list",
        [of(), of()],
        Type::Bool,
        |machine, args| {
            let (one, two) = (list(args, 0)?, list(args, 1)?);
            for item in one.iter() {
                weigh(machine, two)?;
                if two.contains(&item, machine)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        },
    );
}

/// Whether a list has every item of another.
fn contains<'a>(machine: &mut Machine<'a>, list: &List<'a>, items: &List<'a>) -> Fallible<bool> {
    for item in items.iter() {
        weigh(machine, list)?;
        if !list.contains(&item, machine)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Counts going through a list for the deadline.
fn weigh<'a>(machine: &mut Machine<'a>, list: &List<'a>) -> Fallible<()> {
    (0..=list.len() / 64).try_for_each(|_| machine.iterate())
}
