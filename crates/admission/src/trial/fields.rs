//! Fields of an object that a case sets: `spec.replicas`, `spec.containers[0].image`, `metadata.labels[example.com/a]`.

use serde_json::{Map, Value as Json};

/// A step of a path.
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

/// Sets a field, and makes what is missing above it; `null` takes it out.
///
/// # Errors
///
/// Says at which step the object is something else.
pub(super) fn set(object: &mut Json, path: &str, value: &Json) -> Result<(), String> {
    let steps = steps(path).ok_or_else(|| format!("`{path}` is no path of fields"))?;
    let Some((last, above)) = steps.split_last() else {
        return Err("the path is empty".to_owned());
    };
    if value.is_null() {
        take_out(object, above, last);
        return Ok(());
    }
    let mut at = object;
    for step in &steps {
        at = enter(at, step).ok_or_else(|| no_place(path))?;
    }
    *at = value.clone();
    Ok(())
}

/// Takes out a field or item, where it is.
fn take_out(object: &mut Json, above: &[Step<'_>], last: &Step<'_>) {
    let mut at = object;
    for step in above {
        let below = match step {
            Step::Name(name) => at.get_mut(*name),
            Step::Index(index) => at.get_mut(*index),
        };
        let Some(below) = below else { return };
        at = below;
    }
    match (last, at) {
        (Step::Name(name), Json::Object(fields)) => {
            fields.remove(*name);
        }
        (Step::Index(index), Json::Array(items)) if *index < items.len() => {
            items.remove(*index);
        }
        _ => {}
    }
}

fn no_place(path: &str) -> String {
    format!("the object has no place for `{path}`")
}

/// Goes to a field or item; an item right behind the last one is made.
fn enter<'a>(at: &'a mut Json, step: &Step<'_>) -> Option<&'a mut Json> {
    match step {
        Step::Name(name) => {
            if at.is_null() {
                *at = Json::Object(Map::new());
            }
            Some(at.as_object_mut()?.entry(*name).or_insert(Json::Null))
        }
        Step::Index(index) => {
            if at.is_null() {
                *at = Json::Array(Vec::new());
            }
            let items = at.as_array_mut()?;
            if *index == items.len() {
                items.push(Json::Null);
            }
            items.get_mut(*index)
        }
    }
}

fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (inner, after) = inside.split_once(']')?;
            steps.push(inner.parse().map_or(Step::Name(inner), Step::Index));
            rest = after;
            continue;
        }
        let from = match steps.is_empty() {
            true => rest,
            false => rest.strip_prefix('.')?,
        };
        let end = from.find(['.', '[']).unwrap_or(from.len());
        let (name, after) = from.split_at(end);
        if name.is_empty() {
            return None;
        }
        steps.push(Step::Name(name));
        rest = after;
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_field_is_set_made_or_taken_out() {
        let mut object = json!({ "spec": { "containers": [{ "image": "a" }], "x": 1 } });
        set(&mut object, "spec.containers[0].image", &json!("b")).unwrap();
        set(&mut object, "spec.containers[1].image", &json!("c")).unwrap();
        set(&mut object, "metadata.labels[example.com/a]", &json!("d")).unwrap();
        set(&mut object, "spec.x", &Json::Null).unwrap();
        set(&mut object, "spec.none.deeper", &Json::Null).unwrap();
        assert_eq!(object["spec"]["containers"], json!([{ "image": "b" }, { "image": "c" }]));
        assert_eq!(object["metadata"], json!({ "labels": { "example.com/a": "d" } }));
        assert!(object["spec"].get("x").is_none() && object["spec"].get("none").is_none());
        for wrong in ["", ".a", "a..b", "a[0", "spec.containers[7].image", "spec.containers.name"] {
            assert!(set(&mut object, wrong, &json!(1)).is_err(), "{wrong}");
        }
    }
}
