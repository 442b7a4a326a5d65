//! Resources of a pod as a whole, from those of its containers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{fill, inner, inner_mut, is_empty, text};
use crate::{decode::Object, quantity::Quantity};

type Amounts = BTreeMap<String, Quantity>;

/// What the pod asks for and may have, where it says a part of it.
pub(super) fn default_pod_level(spec: &mut Object) {
    let Some(resources) = inner(spec, "resources") else { return };
    if is_empty(resources, "limits") && is_empty(resources, "requests") {
        return;
    }
    let limits = of_containers(spec, "limits");
    let requests = of_containers(spec, "requests");
    let Some(resources) = inner_mut(spec, "resources") else { return };
    default_huge_page_limits(resources, &limits);
    default_requests(resources, &requests);
}

fn default_huge_page_limits(resources: &mut Object, containers: &Amounts) {
    for (name, amount) in containers.iter().filter(|(name, _)| is_huge_page(name)) {
        if inner(resources, "requests").is_none_or(|requests| !requests.contains_key(name)) {
            put(resources, "limits", name, amount.written().into());
        }
    }
}

fn default_requests(resources: &mut Object, containers: &Amounts) {
    if is_empty(resources, "limits") {
        return;
    }
    for (name, amount) in
        containers.iter().filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory"))
    {
        put(resources, "requests", name, amount.written().into());
    }
    for (name, amount) in inner(resources, "limits").cloned().unwrap_or_default() {
        if matches!(name.as_str(), "cpu" | "memory") || is_huge_page(&name) {
            put(resources, "requests", &name, amount);
        }
    }
}

fn put(resources: &mut Object, list: &str, name: &str, amount: Value) {
    fill(resources, list, json!({}));
    if let Some(amounts) = inner_mut(resources, list) {
        fill(amounts, name, amount);
    }
}

fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// What containers need together: all that run at once, or what one init container needs beside those that stay.
fn of_containers(spec: &Object, list: &str) -> Amounts {
    let mut together = Amounts::new();
    for container in containers(spec, "containers") {
        add(&mut together, &amounts(container, list));
    }
    let (mut staying, mut starting) = (Amounts::new(), Amounts::new());
    for container in containers(spec, "initContainers") {
        let own = amounts(container, list);
        let mut at_once = staying.clone();
        add(&mut at_once, &own);
        if text(container, "restartPolicy") == "Always" {
            add(&mut together, &own);
            staying.clone_from(&at_once);
        }
        raise(&mut starting, &at_once);
    }
    raise(&mut together, &starting);
    together
}

fn containers<'o>(spec: &'o Object, list: &str) -> impl Iterator<Item = &'o Object> {
    spec.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn amounts(container: &Object, list: &str) -> Amounts {
    let amounts = inner(container, "resources").and_then(|resources| inner(resources, list));
    amounts
        .into_iter()
        .flatten()
        .filter_map(|(name, amount)| Some((name.clone(), Quantity::parse(amount.as_str()?)?)))
        .collect()
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or_else(|| amount.clone(), |standing| standing.plus(amount));
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if to.get(name).is_none_or(|standing| amount.compare(standing).is_gt()) {
            to.insert(name.clone(), amount.clone());
        }
    }
}
