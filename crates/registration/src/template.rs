//! Texts with places that a pod or a machine fills: `/ns/{namespace}/sa/{serviceAccount}/{container}`.

use crate::pod::Pod;

/// A text with places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Place(Place),
}

/// What a pod fills in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Namespace,
    ServiceAccount,
    Pod,
    Container,
    Machine,
}

const PLACES: [(&str, Place); 5] = [
    ("namespace", Place::Namespace),
    ("serviceAccount", Place::ServiceAccount),
    ("pod", Place::Pod),
    ("container", Place::Container),
    ("machine", Place::Machine),
];

impl Template {
    /// Reads it; what is wrong, where it is none.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (before, behind) = match rest.split_once('{') {
                Some((before, behind)) => (before, Some(behind)),
                None => (rest, None),
            };
            if before.contains('}') {
                return Err("there is a `}` without `{`".to_owned());
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            let Some(behind) = behind else { return Ok(Self(parts)) };
            let (name, after) =
                behind.split_once('}').ok_or_else(|| "there is a `{` without `}`".to_owned())?;
            let place = PLACES.iter().find(|(known, _)| *known == name).map(|(_, place)| *place);
            let all = || PLACES.map(|(known, _)| format!("`{{{known}}}`")).join(", ");
            parts.push(Part::Place(place.ok_or_else(|| {
                format!(
                    "{} is no place; use {}",
                    nullius_fields::shown(&format!("{{{name}}}")),
                    all()
                )
            })?));
            rest = after;
        }
    }

    /// Whether a place stands in it.
    pub(crate) fn has(&self, place: Place) -> bool {
        self.0.contains(&Part::Place(place))
    }

    /// The text for a pod, and for one of its containers where the template asks for it.
    pub(crate) fn fill(&self, pod: &Pod, container: &str) -> String {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Place(Place::Namespace) => pod.namespace.clone(),
            Part::Place(Place::ServiceAccount) => pod.account.clone(),
            // A template has either place: it is for pods or for machines.
            Part::Place(Place::Pod | Place::Machine) => pod.name.clone(),
            Part::Place(Place::Container) => container.into(),
        };
        self.0.iter().map(text).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn a_pod_fills_places() {
        let pod = Pod {
            namespace: "shop".into(),
            account: "web".into(),
            name: "web-0".into(),
            ..Pod::default()
        };
        let fill = |text: &str| Template::read(text).unwrap().fill(&pod, "main");
        assert_eq!(
            fill("/ns/{namespace}/sa/{serviceAccount}/{pod}/{container}"),
            "/ns/shop/sa/web/web-0/main"
        );
        assert_eq!(fill("plain"), "plain");
        assert_eq!(fill(""), "");
        for bad in ["{", "}", "{a", "a}", "{name}", "{}", "{{pod}}", "{Pod}"] {
            assert!(Template::read(bad).is_err(), "{bad}");
        }
    }
}
