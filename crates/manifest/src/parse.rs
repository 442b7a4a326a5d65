//! YAML and JSON into trees.
//!
//! What could be read in two ways is refused: duplicate keys, keys that are no text, a merge that changes what stands
//! above it. Aliases may not make a document larger than its dialect allows, nor may it be deeper than [`DEPTH_MAX`].

use std::{collections::HashMap, rc::Rc};

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use crate::{
    node::{Content, Key, Node, Place},
    scalar,
};

/// The most values that all documents of one strict text may have, aliases counted in full.
pub const NODES_MAX: usize = 200_000;

/// The most values that a text of Kubernetes objects may have, aliases counted in full.
const KUBERNETES_NODES_MAX: usize = 4_000_000;

/// The most values that aliases may add to a text of Kubernetes objects: more than an object that an API server takes has, and
/// few enough that a short text does not become a long one.
const ALIASED_MAX: usize = 100_000;

/// How deep values may stand in one another.
pub const DEPTH_MAX: usize = 128;

/// Whose rules a text follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// YAML 1.2's core schema and no more: tags other than it and merge keys are refused.
    Strict,
    /// What kubectl accepts: words and numbers of YAML 1.1, merge keys, tags that mean nothing, keys that are
    /// numbers or booleans.
    Kubernetes,
}

/// Text that is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads all documents of a text; empty ones are left out.
pub fn parse(text: &str, dialect: Dialect) -> Result<Vec<Node>, SyntaxError> {
    parse_from(text, dialect, 1)
}

/// Reads all documents of a text that begins on this line of its file.
pub fn parse_from(
    text: &str,
    dialect: Dialect,
    first_line: usize,
) -> Result<Vec<Node>, SyntaxError> {
    let options = granit_parser::options! { emit_comments: false, disallow_directives: false };
    let above = first_line.saturating_sub(1);
    let lines = Lines::of(text);
    let mut builder = Builder::new(dialect);
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let (line, column) = lines.place(error.marker().line().max(1), error.marker().col());
            let message = error.info().lines().next().unwrap_or("it is not YAML").to_owned();
            SyntaxError { line: above + line, column, message }
        })?;
        let (line, column) = lines.place(span.start.line().max(1), span.start.col());
        let line = above + line;
        builder.event(event, Place { line, column })?;
    }
    Ok(builder.documents)
}

/// Where the parser's lines begin in lines as editors count them: to YAML a `\r` by itself ends a line too. Empty where that is the same.
struct Lines(Vec<(usize, usize)>);

impl Lines {
    fn of(text: &str) -> Self {
        let is_lone = |(at, _): (usize, &str)| !text[at + 1..].starts_with('\n');
        if !text.match_indices('\r').any(is_lone) {
            return Self(Vec::new());
        }
        let (mut line, mut before) = (1, 0);
        let mut starts = vec![(line, before)];
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            before += 1;
            match letter {
                '\n' => {
                    (line, before) = (line + 1, 0);
                    starts.push((line, before));
                }
                '\r' if letters.peek() != Some(&'\n') => starts.push((line, before)),
                _ => {}
            }
        }
        Self(starts)
    }

    /// Line and column, both counted from 1, of the parser's line and of how much stands before in it.
    fn place(&self, line: usize, before: usize) -> (usize, usize) {
        match self.0.get(line - 1).or(self.0.last()) {
            Some((line, start)) => (*line, start + before + 1),
            None => (line, before + 1),
        }
    }
}

struct Builder {
    dialect: Dialect,
    documents: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    nodes: usize,
    /// Those of them that aliases added.
    aliased: usize,
}

/// A list or mapping that is not complete.
struct Open {
    at: Place,
    anchor: usize,
    content: Content,
    /// The key whose value comes next.
    key: Option<Pending>,
    /// What `<<` brings, behind the mapping's own entries.
    merged: Vec<(Key, Rc<Node>)>,
}

/// A key whose value comes next.
enum Pending {
    Key(Key),
    /// `<<`.
    Merge,
}

impl Builder {
    fn new(dialect: Dialect) -> Self {
        let (documents, open) = (Vec::new(), Vec::new());
        Self { dialect, documents, open, anchors: HashMap::new(), nodes: 0, aliased: 0 }
    }

    fn event(&mut self, event: Event<'_>, at: Place) -> Result<(), SyntaxError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if self.is_merge_key(&text, style, tag.as_deref()) {
                    return self.begin_merge(at);
                }
                let content = self.scalar(&text, style, tag.as_deref(), at)?;
                self.value(node(at, content, 1), anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "seq", at)?;
                self.begin(Content::List(Vec::new()), anchor, at)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), "map", at)?;
                self.begin(Content::Map(Vec::new()), anchor, at)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { at, anchor, mut content, merged, .. }) = self.open.pop() else {
                    return Ok(());
                };
                if let Content::Map(entries) = &mut content {
                    entries.extend(merged);
                }
                let size = 1 + match &content {
                    Content::List(items) => items.iter().map(|item| item.size).sum::<usize>(),
                    Content::Map(entries) => entries.iter().map(|(_, node)| node.size).sum(),
                    Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => 0,
                };
                self.value(node(at, content, size), anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(wrong(at, "the alias stands inside its own anchor"));
                };
                self.nodes = self.nodes.saturating_add(node.size);
                self.aliased = self.aliased.saturating_add(node.size);
                self.check_size(at)?;
                self.check_depth(self.open.len() + depth(&node), at)?;
                self.place(node, at)
            }
            Event::DocumentStart(..) => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, content: Content, anchor: usize, at: Place) -> Result<(), SyntaxError> {
        if let Some(Open { content: Content::Map(_), key: None, .. }) = self.open.last() {
            return Err(wrong(at, "a key must be text"));
        }
        self.check_depth(self.open.len() + 1, at)?;
        self.open.push(Open { at, anchor, content, key: None, merged: Vec::new() });
        Ok(())
    }

    fn value(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        let at = node.place();
        self.nodes += 1;
        self.check_size(at)?;
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(node, at)
    }

    fn place(&mut self, node: Rc<Node>, at: Place) -> Result<(), SyntaxError> {
        let dialect = self.dialect;
        let Some(open) = self.open.last_mut() else {
            if node.content != Content::Null {
                self.documents.push(Rc::unwrap_or_clone(node));
            }
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map(entries) => match open.key.take() {
                Some(Pending::Key(key)) => {
                    open.merged.retain(|(merged, _)| merged.name != key.name);
                    entries.push((key, node));
                }
                Some(Pending::Merge) => merge(entries, &mut open.merged, &node, at)?,
                None => {
                    let name = key_name(&node.content, dialect)
                        .ok_or_else(|| wrong(at, "a key must be text; put it in quotes"))?;
                    if dialect == Dialect::Strict && name == "<<" {
                        return Err(wrong(at, "merge keys (`<<`) are not part of YAML 1.2"));
                    }
                    if entries.iter().any(|(key, _)| key.name == name) {
                        let message = format!("the key `{}` stands twice", shown(&name));
                        return Err(wrong(at, &message));
                    }
                    let Place { line, column } = at;
                    open.key = Some(Pending::Key(Key { line, column, name }));
                }
            },
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {}
        }
        Ok(())
    }

    fn is_merge_key(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> bool {
        let plain = style == ScalarStyle::Plain && tag.is_none();
        let is_key =
            matches!(self.open.last(), Some(Open { content: Content::Map(_), key: None, .. }));
        self.dialect == Dialect::Kubernetes && text == "<<" && plain && is_key
    }

    fn begin_merge(&mut self, at: Place) -> Result<(), SyntaxError> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        if !open.merged.is_empty() {
            return Err(wrong(at, "the merge key `<<` stands twice; give it a list"));
        }
        open.key = Some(Pending::Merge);
        Ok(())
    }

    fn check_size(&self, at: Place) -> Result<(), SyntaxError> {
        let most = match self.dialect {
            Dialect::Strict => NODES_MAX,
            Dialect::Kubernetes => KUBERNETES_NODES_MAX,
        };
        if self.dialect == Dialect::Kubernetes && self.aliased > ALIASED_MAX {
            let told = format!("aliases add more than {ALIASED_MAX} values; write what is meant");
            return Err(wrong(at, &told));
        }
        if self.nodes > most {
            return Err(wrong(at, &format!("more than {most} values, aliases counted in full")));
        }
        Ok(())
    }

    fn check_depth(&self, depth: usize, at: Place) -> Result<(), SyntaxError> {
        if depth > DEPTH_MAX {
            return Err(wrong(at, &format!("values stand more than {DEPTH_MAX} deep")));
        }
        Ok(())
    }

    fn check_tag(&self, tag: Option<&Tag>, allowed: &str, at: Place) -> Result<(), SyntaxError> {
        match tag {
            Some(tag)
                if self.dialect == Dialect::Strict
                    && tag.core_suffix() != Some(allowed)
                    && tag.original() != "!" =>
            {
                let message =
                    format!("the tag `{}` is not understood here", shown(&tag.original()));
                Err(wrong(at, &message))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn scalar(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        at: Place,
    ) -> Result<Content, SyntaxError> {
        let quoted = || Ok(Content::Text(text.to_owned()));
        let plain = || match self.dialect {
            Dialect::Strict => Ok(scalar::core(text)),
            Dialect::Kubernetes => scalar::kubernetes(text)
                .map_err(|_| wrong(at, "JSON, and so Kubernetes, has no such number")),
        };
        match tag.map(Tag::core_suffix) {
            Some(Some("str")) => quoted(),
            Some(Some(suffix @ ("null" | "bool" | "int" | "float"))) => {
                let content = plain()?;
                let fits = match &content {
                    Content::Null => suffix == "null",
                    Content::Bool(_) => suffix == "bool",
                    Content::Number(number) => suffix == "float" || !number.is_f64(),
                    Content::Text(_) | Content::List(_) | Content::Map(_) => false,
                };
                if fits {
                    Ok(content)
                } else {
                    Err(wrong(at, &format!("the value is no `{suffix}`")))
                }
            }
            Some(Some("binary")) if self.dialect == Dialect::Kubernetes => {
                Err(wrong(at, "binary values are not understood here; write text"))
            }
            Some(_) => {
                self.check_tag(tag, "str", at)?;
                quoted()
            }
            None if style == ScalarStyle::Plain => plain(),
            None => quoted(),
        }
    }
}

/// Takes over the entries of one mapping or of each of a list; the first that has a key wins.
fn merge(
    own: &[(Key, Rc<Node>)],
    merged: &mut Vec<(Key, Rc<Node>)>,
    from: &Node,
    at: Place,
) -> Result<(), SyntaxError> {
    let refused = || wrong(at, "a merge key takes a mapping or a list of mappings");
    let maps: Vec<&Node> = match &from.content {
        Content::Map(_) => vec![from],
        Content::List(items) => items.iter().map(AsRef::as_ref).collect(),
        Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => {
            return Err(refused());
        }
    };
    for map in maps {
        let Content::Map(entries) = &map.content else { return Err(refused()) };
        for (key, node) in entries {
            if own.iter().any(|(own, _)| own.name == key.name) {
                let name = shown(&key.name);
                let message = format!(
                    "the merge changes `{name}`, which stands above it; put `<<` first in the mapping"
                );
                return Err(wrong(at, &message));
            }
            if !merged.iter().any(|(known, _)| known.name == key.name) {
                merged.push((key.clone(), Rc::clone(node)));
            }
        }
    }
    Ok(())
}

fn key_name(content: &Content, dialect: Dialect) -> Option<String> {
    match (content, dialect) {
        (Content::Text(name), _) => Some(name.clone()),
        (Content::Bool(value), Dialect::Kubernetes) => Some(value.to_string()),
        (Content::Number(number), Dialect::Kubernetes) if !number.is_f64() => {
            Some(number.to_string())
        }
        (Content::Bool(_) | Content::Number(_), _)
        | (Content::Null | Content::List(_) | Content::Map(_), _) => None,
    }
}

fn node(at: Place, content: Content, size: usize) -> Node {
    Node { line: at.line, column: at.column, content, size }
}

/// How many lists and mappings stand in one another. What is asked has passed the limit, so this ends.
fn depth(node: &Node) -> usize {
    match &node.content {
        Content::List(items) => 1 + items.iter().map(|item| depth(item)).max().unwrap_or(0),
        Content::Map(entries) => 1 + entries.iter().map(|(_, item)| depth(item)).max().unwrap_or(0),
        Content::Null | Content::Bool(_) | Content::Number(_) | Content::Text(_) => 0,
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

fn wrong(at: Place, message: &str) -> SyntaxError {
    SyntaxError { line: at.line, column: at.column, message: message.to_owned() }
}

#[cfg(test)]
#[path = "parse/tests.rs"]
mod tests;
