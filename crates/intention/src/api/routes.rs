//! Paths of a document, found by the path of a request: what is written out before what is a template.

use std::collections::HashMap;

/// Segments of one path.
const SEGMENTS_MAX: usize = 64;

/// A segment of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Box<str>),
    /// Any text but none.
    Template(Box<str>),
}

/// Paths as a tree of segments.
#[derive(Debug)]
pub(super) struct Routes {
    branches: Vec<Branch>,
    paths: Vec<(Box<str>, Vec<Segment>)>,
}

#[derive(Debug, Default)]
struct Branch {
    literals: HashMap<Box<str>, usize>,
    template: Option<usize>,
    path: Option<usize>,
}

/// The segments of a path as it is written, `/orders/{id}`.
pub(super) fn segments(path: &str) -> Result<Vec<Segment>, String> {
    let Some(rest) = path.strip_prefix('/') else {
        return Err("a path begins with `/`".to_owned());
    };
    let count = rest.split('/').count();
    if count > SEGMENTS_MAX {
        return Err(format!("it has more than {SEGMENTS_MAX} segments"));
    }
    let mut all: Vec<Segment> = Vec::with_capacity(count);
    for (index, text) in rest.split('/').enumerate() {
        let is_last = index + 1 == count;
        let segment = match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) if !name.is_empty() && !name.contains(['{', '}']) => {
                let template = Segment::Template(name.into());
                if all.contains(&template) {
                    return Err(format!("`{{{name}}}` stands twice in it"));
                }
                template
            }
            Some(_) => return Err("a template is a name in braces, `{id}`".to_owned()),
            None if text.contains(['{', '}']) => {
                return Err(
                    "a template is a whole segment: parts of one could be divided in two ways"
                        .to_owned(),
                );
            }
            None if text.is_empty() && !is_last => {
                return Err("it has an empty segment, which no request may have".to_owned());
            }
            None if text == "." || text == ".." || text.contains(['%', '?', '#', ';', '\\']) => {
                return Err("write it as it is when it is decoded, without `.`, `..`, `%`, `?`, `#`, `;` and `\\`".to_owned());
            }
            None => Segment::Literal(text.into()),
        };
        all.push(segment);
    }
    Ok(all)
}

/// How two paths stand to each other.
#[derive(Debug, PartialEq, Eq)]
enum Against {
    /// No request has both.
    Apart,
    /// One is more exact.
    Nested,
    /// They are the same but for names.
    Same,
    /// Some request has both, and each is more exact somewhere.
    Across,
}

fn against(one: &[Segment], other: &[Segment]) -> Against {
    if one.len() != other.len() {
        return Against::Apart;
    }
    let (mut first, mut second) = (false, false);
    for pair in one.iter().zip(other) {
        match pair {
            (Segment::Literal(one), Segment::Literal(other)) if one != other => {
                return Against::Apart;
            }
            // A template stands for no empty segment.
            (Segment::Literal(text), Segment::Template(_))
            | (Segment::Template(_), Segment::Literal(text))
                if text.is_empty() =>
            {
                return Against::Apart;
            }
            (Segment::Literal(_), Segment::Literal(_))
            | (Segment::Template(_), Segment::Template(_)) => {}
            (Segment::Literal(_), Segment::Template(_)) => first = true,
            (Segment::Template(_), Segment::Literal(_)) => second = true,
        }
    }
    match (first, second) {
        (false, false) => Against::Same,
        (true, true) => Against::Across,
        _ => Against::Nested,
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self { branches: vec![Branch::default()], paths: Vec::new() }
    }
}

impl Routes {
    /// Adds a path, and says its number.
    pub(super) fn add(&mut self, path: &str, segments: Vec<Segment>) -> Result<usize, String> {
        for (other, known) in &self.paths {
            match against(&segments, known) {
                Against::Apart | Against::Nested => {}
                Against::Same => return Err(format!("it is the same as `{other}`")),
                Against::Across => {
                    return Err(format!(
                        "requests may be for it and for `{other}`, and neither is the more exact: servers choose in different ways"
                    ));
                }
            }
        }
        let number = self.paths.len();
        let mut at = 0;
        for segment in &segments {
            let new = self.branches.len();
            let branch = &mut self.branches[at];
            at = match segment {
                Segment::Literal(text) => *branch.literals.entry(text.clone()).or_insert(new),
                Segment::Template(_) => *branch.template.get_or_insert(new),
            };
            if at == new {
                self.branches.push(Branch::default());
            }
        }
        self.branches[at].path = Some(number);
        self.paths.push((path.into(), segments));
        Ok(number)
    }

    /// The number of the path that a request's is, with what stands for its templates.
    pub(super) fn find<'r>(&self, path: &'r str) -> Option<(usize, Vec<&'r str>)> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        if segments.len() > SEGMENTS_MAX {
            return None;
        }
        let number = self.find_below(0, &segments)?;
        let (_, written) = self.paths.get(number)?;
        let values = written.iter().zip(segments).filter_map(|(segment, value)| match segment {
            Segment::Template(_) => Some(value),
            Segment::Literal(_) => None,
        });
        Some((number, values.collect()))
    }

    /// Never deeper than what is written, and at each branch once.
    fn find_below(&self, at: usize, segments: &[&str]) -> Option<usize> {
        let branch = self.branches.get(at)?;
        let Some((first, rest)) = segments.split_first() else { return branch.path };
        let literal = branch.literals.get(*first).and_then(|at| self.find_below(*at, rest));
        literal.or_else(|| {
            let template = branch.template.filter(|_| !first.is_empty())?;
            self.find_below(template, rest)
        })
    }

    /// A path as it is written.
    pub(super) fn written(&self, number: usize) -> &str {
        self.paths.get(number).map_or("", |(path, _)| path)
    }

    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn routes(paths: &[&str]) -> Result<Routes, String> {
        let mut routes = Routes::default();
        for path in paths {
            routes.add(path, segments(path)?)?;
        }
        Ok(routes)
    }

    #[test]
    fn what_is_written_out_comes_before_a_template_wherever_it_stands() {
        let routes = routes(&[
            "/",
            "/orders",
            "/orders/",
            "/orders/{id}",
            "/orders/mine",
            "/orders/{id}/items",
            "/orders/mine/notes",
            "/{any}",
        ])
        .unwrap();
        let find = |path: &str| {
            let (number, values) = routes.find(path)?;
            Some((routes.written(number).to_owned(), values.join(",")))
        };
        let is = |path: &str, written: &str, values: &str| {
            assert_eq!(find(path), Some((written.to_owned(), values.to_owned())), "{path}");
        };
        is("/", "/", "");
        is("/orders", "/orders", "");
        is("/orders/", "/orders/", "");
        is("/orders/7", "/orders/{id}", "7");
        is("/orders/mine", "/orders/mine", "");
        is("/orders/mine/items", "/orders/{id}/items", "mine");
        is("/orders/mine/notes", "/orders/mine/notes", "");
        is("/else", "/{any}", "else");
        for path in ["/orders/7/", "/orders//items", "/orders/7/items/1", "/Orders/7", "orders", ""]
        {
            assert_eq!(find(path).filter(|(written, _)| written != "/{any}"), None, "{path}");
        }
        assert_eq!(find(&"/a".repeat(100_000)), None);
    }

    #[test]
    fn paths_of_which_servers_choose_in_different_ways_are_refused() {
        for (paths, why) in [
            (&["/{kind}/mine", "/orders/{id}"][..], "neither is the more exact"),
            (&["/a/{x}", "/a/{y}"], "the same as `/a/{x}`"),
            (&["/a/{x}.json"], "a whole segment"),
            (&["/a/{x}/{x}"], "stands twice"),
            (&["/a//b"], "empty segment"),
            (&["/a/%7e"], "decoded"),
            (&["/a/../b"], "decoded"),
            (&["a"], "begins with `/`"),
            (&["/a/{}"], "a name in braces"),
        ] {
            let told = routes(paths).unwrap_err();
            assert!(told.contains(why), "{paths:?}: {told}");
        }
        assert!(routes(&["/a/{x}/c", "/a/b/{y}/d", "/{z}/b"]).is_ok());
    }
}
