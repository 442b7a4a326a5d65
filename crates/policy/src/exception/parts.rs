//! An object without the parts that an exception is for.

use nullius_model::ExceptionScope;
use serde_json::Value as Json;

use super::glob::Glob;
use crate::pod_security::Workload;

/// The lists of containers in the spec of a pod.
const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// Values of a field that are taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ValuePath {
    steps: Vec<Step>,
    values: Vec<Json>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    /// Every item of a list.
    Each,
}

impl ValuePath {
    /// Reads `spec.volumes[*].hostPath`; a key with dots stands in brackets, `metadata.annotations[example.com/a]`.
    pub(super) fn parse(text: &str, values: &[Json]) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(bracket) = rest.strip_prefix('[') {
                let (key, after) =
                    bracket.split_once(']').ok_or_else(|| format!("`{text}`: a `]` is missing"))?;
                steps.push(match key {
                    "*" => Step::Each,
                    "" => return Err(format!("`{text}`: write `[*]` or `[key]`")),
                    key if key.bytes().all(|byte| byte.is_ascii_digit()) => {
                        let told = "an item is not named by its place; write `[*]` and its value";
                        return Err(format!("`{text}`: {told}"));
                    }
                    key => Step::Field(key.to_owned()),
                });
                rest = after;
                continue;
            }
            let field = match (steps.is_empty(), rest.strip_prefix('.')) {
                (true, None) => rest,
                (false, Some(field)) => field,
                _ => return Err(format!("`{text}`: fields are separated by one `.`")),
            };
            let end = field.find(['.', '[']).unwrap_or(field.len());
            if end == 0 {
                return Err(format!("`{text}`: the name of a field is missing"));
            }
            steps.push(Step::Field(field[..end].to_owned()));
            rest = &field[end..];
        }
        if steps.is_empty() {
            return Err("name a field".to_owned());
        }
        Ok(Self { steps, values: values.to_vec() })
    }

    /// Whether it is a field of containers.
    pub(super) fn is_of_containers(&self) -> bool {
        self.below_containers().is_some()
    }

    /// The list and the steps below one of its items.
    fn below_containers(&self) -> Option<(&str, &[Step])> {
        let [Step::Field(spec), Step::Field(list), Step::Each, below @ ..] = self.steps.as_slice()
        else {
            return None;
        };
        let is_list = spec == "spec" && CONTAINERS.contains(&list.as_str()) && !below.is_empty();
        is_list.then_some((list, below))
    }

    fn names(&self, value: &Json) -> bool {
        self.values.iter().any(|wanted| has(value, wanted))
    }

    /// Takes the values out below `value`; whether there were any.
    fn take_out(&self, value: &mut Json, steps: &[Step]) -> bool {
        match (steps, value) {
            ([], _) => false,
            ([Step::Each], Json::Array(items)) => self.take_items(items),
            ([Step::Each, below @ ..], Json::Array(items)) => {
                items.iter_mut().fold(false, |any, item| self.take_out(item, below) | any)
            }
            ([Step::Field(name)], Json::Object(fields)) => match fields.get_mut(name) {
                Some(Json::Array(items)) => self.take_items(items),
                Some(found) if self.names(found) => fields.remove(name).is_some(),
                _ => false,
            },
            ([Step::Field(name), below @ ..], Json::Object(fields)) => {
                fields.get_mut(name).is_some_and(|found| self.take_out(found, below))
            }
            _ => false,
        }
    }

    fn take_items(&self, items: &mut Vec<Json>) -> bool {
        let before = items.len();
        items.retain(|item| !self.names(item));
        items.len() < before
    }
}

/// Whether a value is the wanted one, or an object with all its fields.
fn has(value: &Json, wanted: &Json) -> bool {
    match (value, wanted) {
        (Json::Object(fields), Json::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| fields.get(name).is_some_and(|value| has(value, wanted))),
        _ => value == wanted,
    }
}

/// The object without the parts; `None` where it has none of them.
pub(super) fn without(
    object: &Json,
    workload: Option<Workload>,
    scope: &ExceptionScope,
    paths: &[ValuePath],
) -> Option<Json> {
    let mut rest = object.clone();
    let mut pod = &mut rest;
    for field in workload.map(Workload::template_fields).unwrap_or_default() {
        pod = pod.get_mut(*field)?;
    }
    let by_container = !scope.containers.is_empty() || !scope.images.is_empty();
    let is_ours = |container: &Json| {
        let text = |field: &str| container.get(field).and_then(Json::as_str).unwrap_or_default();
        (scope.containers.is_empty() || Glob::any(&scope.containers, text("name")))
            && (scope.images.is_empty() || Glob::any(&scope.images, text("image")))
    };
    let mut any = false;
    match (by_container, paths) {
        (true, []) => {
            workload?;
            for list in CONTAINERS {
                let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(list));
                if let Some(Json::Array(containers)) = containers {
                    let before = containers.len();
                    containers.retain(|container| !is_ours(container));
                    any |= containers.len() < before;
                }
            }
        }
        (true, paths) => {
            workload?;
            for path in paths {
                let Some((list, below)) = path.below_containers() else { continue };
                let containers = pod.get_mut("spec").and_then(|spec| spec.get_mut(list));
                if let Some(Json::Array(containers)) = containers {
                    for container in containers.iter_mut().filter(|container| is_ours(container)) {
                        any |= path.take_out(container, below);
                    }
                }
            }
        }
        (false, paths) => {
            for path in paths {
                any |= path.take_out(pod, &path.steps);
            }
        }
    }
    any.then_some(rest)
}
