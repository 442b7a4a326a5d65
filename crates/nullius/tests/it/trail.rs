//! What the hub's audit says, as tests read it.

use nullius_testkit::wait_until;
use serde_json::Value;

use crate::{faults_lab::PATIENCE, world::World};

/// Events of the hub's audit, newest first.
pub(crate) fn events(world: &World, filter: &[&str]) -> Vec<Value> {
    let answer = world.admin_json(&[&["audit", "list", "--limit", "20000"], filter].concat());
    let rows = answer["items"].as_array().unwrap();
    rows.iter().map(|row| row["event"].clone()).collect()
}

/// Waits for an event: a request's end is written when its answer has been read.
#[track_caller]
pub(crate) fn wait_event(
    world: &World,
    what: &str,
    filter: &[&str],
    mut wanted: impl FnMut(&Value) -> bool,
) -> Value {
    let found = wait_until(PATIENCE, what, || {
        events(world, filter).into_iter().find(|event| wanted(event))
    });
    found.unwrap()
}

/// A text in an event, at a JSON pointer; empty where there is none.
pub(crate) fn text<'e>(event: &'e Value, pointer: &str) -> &'e str {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
