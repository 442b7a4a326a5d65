//! An object of a file as an API server would hold it, and what in the file an API server would not take.

use nullius_kinds::{Form, Normalized, Table, normalize};
use nullius_model::FieldPath;
use serde_json::Value;

use crate::objects::{Fault, Manifest, shown};

/// What an API server would make of an object in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiObject {
    /// The object as admission would see it; `None` if no API server takes it.
    pub object: Option<Value>,
    /// How far that is what an API server would hold.
    pub form: Form,
    /// What an API server would not take, with places.
    pub faults: Vec<Fault>,
}

impl Manifest {
    /// Reads the object as an API server does: strictly, with defaults, in Go's form.
    pub fn as_api_object(&self) -> ApiObject {
        let (object, form, faults) = match normalize(&self.to_json()) {
            Ok(Normalized { object, form, dropped }) => (Some(object), form, dropped),
            Err(faults) => (None, Form::Builtin, faults),
        };
        let mut located: Vec<Fault> = faults
            .iter()
            .map(|fault| Fault {
                place: self.node().place_of(&fault.path),
                message: self.told(fault),
                next: Some(fault.next()),
            })
            .collect();
        located.extend((form == Form::Gone).then(|| self.gone()));
        located.sort_by_key(|fault| fault.place);
        if form == Form::AsWritten && Table::builtin().refuses(&self.api_version, &self.kind) {
            return ApiObject { object: None, form: Form::Builtin, faults: vec![self.no_kind()] };
        }
        ApiObject { object, form, faults: located }
    }

    /// A field that is unknown to one version of Kubernetes may be known to another.
    fn told(&self, fault: &nullius_kinds::Fault) -> String {
        if !fault.is_dropped() {
            return fault.to_string();
        }
        let version = minor(Table::builtin().version());
        format!("{fault} in a `{}` of Kubernetes {version}", self.kind)
    }

    /// A kind that is in none of Kubernetes' own groups, though it says so.
    fn no_kind(&self) -> Fault {
        let table = Table::builtin();
        let Self { api_version, kind, .. } = self;
        let version = minor(table.version());
        let next = match table.meant(api_version, kind) {
            Some(meant) if meant.api_version == api_version => {
                format!("did you mean `{}`?", meant.name)
            }
            Some(meant) if meant.name == kind => format!("write it in `{}`", meant.api_version),
            Some(meant) => format!("did you mean `{}` in `{}`?", meant.name, meant.api_version),
            None => "see `kubectl api-resources`".to_owned(),
        };
        Fault {
            place: self.node().place_of(&FieldPath::of(&["kind"])),
            message: format!(
                "Kubernetes {version} has no kind `{}` in `{}`",
                shown(kind),
                shown(api_version)
            ),
            next: Some(next),
        }
    }

    fn gone(&self) -> Fault {
        let table = Table::builtin();
        let Self { api_version, kind, .. } = self;
        let version = minor(table.version());
        let newer: Vec<_> = table
            .kinds()
            .filter(|served| served.name == kind)
            .map(|served| format!("`{}`", served.api_version))
            .collect();
        let next = match newer.as_slice() {
            [] => "take it out of the files for newer clusters".to_owned(),
            newer => format!("write it in {}", newer.join(" or ")),
        };
        Fault {
            place: self.node().place(),
            message: format!(
                "Kubernetes {version} does not serve `{kind}` in `{api_version}` any more"
            ),
            next: Some(next),
        }
    }
}

/// `v1.36` of `v1.36.3`.
fn minor(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _)| minor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test")]

    use serde_json::json;

    use super::*;
    use crate::{Found, objects};

    fn read(text: &str) -> Vec<ApiObject> {
        let mut all = Vec::new();
        objects(text, |found| match found {
            Found::Object(manifest) => all.push(manifest.as_api_object()),
            Found::Other(_) => {}
            Found::Fault(fault) => panic!("{fault:?}"),
        });
        all
    }

    fn told(object: &ApiObject) -> Vec<String> {
        let told = |fault: &Fault| {
            let next = fault.next.as_deref().unwrap_or_default();
            format!("{}:{}: {}; {next}", fault.place.line, fault.place.column, fault.message)
        };
        object.faults.iter().map(told).collect()
    }

    #[test]
    fn what_an_api_server_does_not_take_has_its_place_and_a_way_out() {
        let text = "\
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  hostNetwrok: true
  runAsNonRoot: true
  containers:
  - name: a
    env: [{name: PORT, value: 80}]
    image: i
";
        let [object] = read(text).try_into().unwrap();
        assert_eq!(object.object, None);
        assert_eq!(
            told(&object),
            [
                "5:3: unknown field `spec.hostNetwrok` in a `Pod` of Kubernetes v1.36; did you mean `hostNetwork`?",
                "6:3: unknown field `spec.runAsNonRoot` in a `Pod` of Kubernetes v1.36; did you mean `spec.securityContext.runAsNonRoot`?",
                "9:24: `spec.containers[0].env[0].value` must be text, not a number; put it in quotes: YAML takes numbers and words such as `yes` for something else",
            ]
        );
    }

    #[test]
    fn unknown_fields_are_dropped_and_the_rest_is_as_the_api_server_has_it() {
        let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, label: {}}\ndata: {a: b}\nimmutable: null\n";
        let [object] = read(text).try_into().unwrap();
        assert_eq!(object.form, Form::Builtin);
        assert_eq!(
            object.object,
            Some(
                json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "a": "b" } })
            )
        );
        assert_eq!(told(&object).len(), 1, "{:?}", told(&object));
    }

    #[test]
    fn other_kinds_pass_and_old_ones_are_named() {
        let text = "\
apiVersion: example.com/v1
kind: Widget
spec: {any: [1, null]}
---
apiVersion: extensions/v1beta1
kind: Deployment
metadata: {name: a}
";
        let [widget, old] = read(text).try_into().unwrap();
        assert_eq!((widget.form, widget.faults.len()), (Form::AsWritten, 0));
        assert_eq!(widget.object.unwrap()["spec"], json!({ "any": [1, null] }));
        assert_eq!(
            told(&old),
            [
                "5:1: Kubernetes v1.36 does not serve `Deployment` in `extensions/v1beta1` any more; write it in `apps/v1`"
            ]
        );
    }

    #[test]
    fn a_wrong_kind_of_kubernetes_groups_is_no_object_and_the_near_one_is_named() {
        let text = "\
apiVersion: apps/v1
kind: Deploymnt
metadata: {name: a}
---
{apiVersion: v1, kind: Deployment}
---
{apiVersion: v1, kind: pod}
---
{apiVersion: policy/v1, kind: Cake}
";
        let told: Vec<_> = read(text)
            .iter()
            .map(|object| {
                assert_eq!((&object.object, object.form), (&None, Form::Builtin));
                told(object).join("\n")
            })
            .collect();
        assert_eq!(
            told,
            [
                "2:1: Kubernetes v1.36 has no kind `Deploymnt` in `apps/v1`; did you mean `Deployment`?",
                "5:18: Kubernetes v1.36 has no kind `Deployment` in `v1`; write it in `apps/v1`",
                "7:18: Kubernetes v1.36 has no kind `pod` in `v1`; did you mean `Pod`?",
                "9:25: Kubernetes v1.36 has no kind `Cake` in `policy/v1`; see `kubectl api-resources`",
            ]
        );
    }

    #[test]
    fn items_of_a_typed_list_are_of_its_kind() {
        let text = "apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {name: a}\n";
        let [item] = read(text).try_into().unwrap();
        assert_eq!(item.form, Form::Builtin);
        assert_eq!(item.object.unwrap()["kind"], "ConfigMap");
    }
}
