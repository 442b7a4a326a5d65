//! Routing inside of a pod: what has the mark of borrowed addresses is delivered there, whoever's the address is.

use std::io;

use nullius_nft::netlink::{
    ACK, CREATE, Connection, EXCLUSIVE, Messages, Protocol, REPLACE, REQUEST,
};

use crate::{RedirectError, plan::BORROWED};

const NEW_LINK: u16 = 16;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;

const LOOPBACK: u32 = 1;
const UP: u32 = 1;
/// Number of the routing table, and of the rule's place among the others.
const NUMBER: u32 = 15006;
const PRIORITY_OF_RULE: u16 = 6;
const MARK_OF_RULE: u16 = 10;
const TABLE: u16 = 15;
const MASK_OF_RULE: u16 = 16;
const OUTPUT_OF_ROUTE: u16 = 4;

const NOT_FOUND: i32 = 2;
const NO_PROCESS: i32 = 3;
const NO_ACCESS: i32 = 13;
const EXISTS: i32 = 17;
const INVALID: i32 = 22;
const NOT_SUPPORTED: i32 = 95;
const NO_FAMILY: i32 = 97;

/// A family of addresses, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4 = 2,
    V6 = 10,
}

/// Makes what the rules need; what is there already stays.
pub(crate) fn install() -> Result<(), RedirectError> {
    let connection = open()?;
    // Runtimes attach a pod's networks side by side: loopback may come up after this.
    connection.ask(loopback_up()).map_err(failed("the loopback interface"))?;
    for family in [Family::V4, Family::V6] {
        let made = connection
            .ask(route(family, NEW_ROUTE, CREATE | REPLACE))
            .map_err(failed("the route of borrowed addresses"))
            .and_then(|()| match connection.ask(rule(family, NEW_RULE, CREATE | EXCLUSIVE)) {
                Err(error) if error.raw_os_error() == Some(EXISTS) => Ok(()),
                other => other.map_err(failed("the rule of borrowed addresses")),
            });
        match made {
            Err(RedirectError::Routes { source, .. }) if is_absent(family, &source) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Takes away what [`install`] made, also where only a part of it is there.
pub(crate) fn remove() -> Result<(), RedirectError> {
    let connection = open()?;
    for family in [Family::V4, Family::V6] {
        delete(&connection, "the rule of borrowed addresses", || rule(family, DELETE_RULE, 0))?;
        delete(&connection, "the route of borrowed addresses", || route(family, DELETE_ROUTE, 0))?;
    }
    Ok(())
}

fn open() -> Result<Connection, RedirectError> {
    Connection::open(Protocol::Route).map_err(failed("routes: the kernel cannot be spoken to"))
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> RedirectError {
    move |source| RedirectError::Routes { what, source }
}

/// Whether a pod has no IPv6: not in the kernel, or turned off. It has no traffic of it then.
fn is_absent(family: Family, error: &io::Error) -> bool {
    let absent = [NO_ACCESS, INVALID, NOT_SUPPORTED, NO_FAMILY];
    family == Family::V6 && error.raw_os_error().is_some_and(|errno| absent.contains(&errno))
}

fn delete(
    connection: &Connection,
    what: &'static str,
    request: impl Fn() -> Messages,
) -> Result<(), RedirectError> {
    let none = [NOT_FOUND, NO_PROCESS, NOT_SUPPORTED, NO_FAMILY];
    loop {
        match connection.ask(request()) {
            // There may be more of them.
            Ok(()) => {}
            Err(error) if error.raw_os_error().is_some_and(|errno| none.contains(&errno)) => {
                return Ok(());
            }
            Err(error) => return Err(failed(what)(error)),
        }
    }
}

fn loopback_up() -> Messages {
    let mut messages = Messages::default();
    let mut fixed = vec![0; 4];
    for number in [LOOPBACK, UP, UP] {
        fixed.extend(number.to_ne_bytes());
    }
    messages.begin(NEW_LINK, REQUEST | ACK, 1, &fixed);
    messages
}

/// `local default dev lo table NUMBER`.
fn route(family: Family, kind: u16, flags: u16) -> Messages {
    // Family, lengths of destination and source, service; table (in an attribute), who made it (an administrator), where (this
    // machine), what (local); flags.
    let fixed = [family as u8, 0, 0, 0, 0, 4, 254, 2, 0, 0, 0, 0];
    let mut messages = Messages::default();
    messages
        .begin(kind, REQUEST | ACK | flags, 1, &fixed)
        .attribute(TABLE, &NUMBER.to_ne_bytes())
        .attribute(OUTPUT_OF_ROUTE, &LOOPBACK.to_ne_bytes());
    messages
}

/// `fwmark BORROWED lookup NUMBER priority NUMBER`.
fn rule(family: Family, kind: u16, flags: u16) -> Messages {
    // Family, lengths of destination and source, service; table (in an attribute), two reserved, what it does (look up there); flags.
    let fixed = [family as u8, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let mut messages = Messages::default();
    messages
        .begin(kind, REQUEST | ACK | flags, 1, &fixed)
        .attribute(PRIORITY_OF_RULE, &NUMBER.to_ne_bytes())
        .attribute(MARK_OF_RULE, &BORROWED.to_ne_bytes())
        .attribute(MASK_OF_RULE, &u32::MAX.to_ne_bytes())
        .attribute(TABLE, &NUMBER.to_ne_bytes());
    messages
}
