//! Documents of OpenAPI 3.1, read strictly as far as they speak of requests: whatever could say something about a request and is not
//! understood is refused by name. What they say of answers, examples and callbacks is passed over.

use nullius_fields::{Faults, found, nearest, shown};
use serde_json::{Map, Value as Json};

use super::{
    ApiSchema, Operation, Path,
    body::{Bodies, Content, Media, are_plain},
    parameters::{Many, Need, Parameter, Place},
    routes::{Routes, Segment, segments},
    schema::{DIALECTS, Reader, Schemas, below, types},
};

/// Where a document stands in an intention.
const PLACE: &str = "spec.api.schema";
/// Paths and operations of one document.
const PATHS_MAX: usize = 1_000;
const OPERATIONS_MAX: usize = 2_000;
/// Parameters of one operation, and kinds of bodies.
const PARAMETERS_MAX: usize = 100;
/// References from one to the next.
const REFERENCES_MAX: usize = 8;

/// Methods that an operation can be for.
const METHODS: [(&str, &str); 8] = [
    ("get", "GET"),
    ("put", "PUT"),
    ("post", "POST"),
    ("delete", "DELETE"),
    ("options", "OPTIONS"),
    ("head", "HEAD"),
    ("patch", "PATCH"),
    ("trace", "TRACE"),
];

/// A pointer as fields are named: `spec.api.schema.paths[/orders/{id}].get`.
pub(super) fn at(pointer: &str) -> String {
    let mut place = PLACE.to_owned();
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_-$".contains(c);
        let is_index = token.bytes().all(|c| c.is_ascii_digit());
        match !is_index && token.chars().all(is_word) {
            true => place.push_str(&format!(".{token}")),
            false => place.push_str(&format!("[{token}]")),
        }
    }
    place.chars().take(400).flat_map(char::escape_debug).collect()
}

/// What a reference stands for: its pointer, and what is there.
pub(super) fn resolve<'d>(document: &'d Json, target: &str) -> Result<(String, &'d Json), String> {
    let Some(fragment) = target.strip_prefix('#') else {
        return Err(format!(
            "{} leads out of the document: nothing is fetched, put what it names into `components`",
            shown(target)
        ));
    };
    let nothing = || format!("{} stands for nothing in the document", shown(target));
    let fragment = percent_decoded(fragment).ok_or_else(nothing)?;
    let Some(rest) = fragment.strip_prefix('/') else {
        return Err(format!(
            "{} is no place in the document: write `#/components/…`",
            shown(target)
        ));
    };
    let (mut pointer, mut value) = (String::new(), document);
    for token in rest.split('/') {
        let name = token.replace("~1", "/").replace("~0", "~");
        value = match value {
            Json::Object(map) => map.get(&name),
            Json::Array(items) => name.parse().ok().and_then(|index: usize| items.get(index)),
            _ => None,
        }
        .ok_or_else(nothing)?;
        pointer = below(&pointer, &name);
    }
    Ok((pointer, value))
}

/// A part of an address, decoded once; none where it is no text.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|c| char::from(c).to_digit(16));
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// Reads a document.
pub(super) fn read(document: &Json, faults: &Faults) -> Option<ApiSchema> {
    let before = faults.count();
    let mut walk = Walk {
        document,
        faults,
        schemas: Reader::new(document, faults),
        routes: Routes::default(),
        paths: Vec::new(),
        operations: Vec::new(),
        base: "".into(),
    };
    walk.root();
    let Walk { schemas, routes, paths, mut operations, base, .. } = walk;
    let schemas = schemas.finish();
    for operation in &mut operations {
        for parameter in &mut operation.parameters {
            settle(parameter, &schemas, faults);
        }
    }
    (faults.count() == before).then_some(ApiSchema { base, routes, paths, operations, schemas })
}

/// Says how a parameter's text is divided, now that its schema is known.
fn settle(parameter: &mut Parameter, schemas: &Schemas, faults: &Faults) {
    let wrong = |told: &str| faults.add(&at(&parameter.pointer), told);
    if schemas.leaves_numbers_open(parameter.schema) {
        wrong(
            "its schema says something of numbers and names no type, and `1e3` or `007` are numbers to some servers alone: name the `type`",
        );
    }
    let Some(bits) = schemas.types_of(parameter.schema) else {
        parameter.many = Many::One;
        return;
    };
    if bits & types::OBJECT != 0 {
        wrong(
            "a mapping in a parameter is written in ways that servers read differently: send it in a body",
        );
    }
    if bits & types::ARRAY == 0 {
        parameter.many = Many::One;
    } else if bits != types::ARRAY {
        wrong(
            "a list that may be something else too could be read in two ways: let its type be `array` alone",
        );
    } else if parameter.place == Place::Path {
        wrong(
            "a list in a path is divided before it is decoded by some, and by others after: send it in the query",
        );
    }
}

/// A mapping of the document, where it stands.
struct Object<'d> {
    map: &'d Map<String, Json>,
    pointer: String,
}

struct Walk<'d> {
    document: &'d Json,
    faults: &'d Faults,
    schemas: Reader<'d>,
    routes: Routes,
    paths: Vec<Path>,
    operations: Vec<Operation>,
    base: Box<str>,
}

impl<'d> Walk<'d> {
    fn wrong(&self, pointer: &str, told: impl Into<String>) {
        self.faults.add(&at(pointer), told);
    }

    fn object(&self, pointer: &str, value: &'d Json) -> Option<Object<'d>> {
        let Json::Object(map) = value else {
            self.wrong(pointer, format!("expected a mapping, found {}", found(value)));
            return None;
        };
        Some(Object { map, pointer: pointer.to_owned() })
    }

    /// What stands at a place, or where a reference there leads.
    fn resolved(&self, pointer: &str, value: &'d Json) -> Option<Object<'d>> {
        let mut object = self.object(pointer, value)?;
        for _ in 0..REFERENCES_MAX {
            let Some(target) = object.map.get("$ref") else { return Some(object) };
            let at = below(&object.pointer, "$ref");
            self.only(&object, &["$ref", "summary", "description"]);
            let Some(target) = target.as_str() else {
                self.wrong(&at, format!("expected text, found {}", found(target)));
                return None;
            };
            match resolve(self.document, target) {
                Ok((pointer, value)) => object = self.object(&pointer, value)?,
                Err(told) => {
                    self.wrong(&at, told);
                    return None;
                }
            }
        }
        self.wrong(
            pointer,
            format!("it refers to itself, or over more than {REFERENCES_MAX} places"),
        );
        None
    }

    /// Tells every name that nobody knows there.
    fn only(&self, object: &Object<'d>, known: &[&str]) {
        let unknown = |name: &&String| !known.contains(&name.as_str()) && !name.starts_with("x-");
        for name in object.map.keys().filter(unknown) {
            let told = match nearest(name, known.iter().copied()) {
                Some(near) => format!("unknown field; did you mean `{near}`?"),
                None => format!("unknown field; known here are `{}`", known.join("`, `")),
            };
            self.wrong(&below(&object.pointer, name), told);
        }
    }

    fn truth(&self, object: &Object<'d>, name: &str) -> bool {
        match object.map.get(name) {
            None => false,
            Some(Json::Bool(truth)) => *truth,
            Some(other) => {
                let told = format!("expected `true` or `false`, found {}", found(other));
                self.wrong(&below(&object.pointer, name), told);
                false
            }
        }
    }

    fn root(&mut self) {
        let Some(root) = self.object("", self.document) else { return };
        let known = [
            "openapi",
            "info",
            "jsonSchemaDialect",
            "servers",
            "paths",
            "webhooks",
            "components",
            "security",
            "tags",
            "externalDocs",
        ];
        self.only(&root, &known);
        let version = root.map.get("openapi");
        if !version.and_then(Json::as_str).is_some_and(|it| it == "3.1" || it.starts_with("3.1.")) {
            let told = version.map_or("nothing".to_owned(), found);
            self.wrong("/openapi", format!("documents of OpenAPI 3.1 are read; this says {told}"));
            return;
        }
        if let Some(dialect) = root.map.get("jsonSchemaDialect")
            && !dialect.as_str().is_some_and(|it| DIALECTS.contains(&it.trim_end_matches('#')))
        {
            let told = format!("{} is not read; JSON Schema 2020-12 is", found(dialect));
            self.wrong("/jsonSchemaDialect", told);
        }
        self.servers(&root);
        let Some(paths) = root.map.get("paths") else {
            self.wrong("/paths", "it is missing: say which paths there are; no other is let in");
            return;
        };
        let Some(paths) = self.object("/paths", paths) else { return };
        if paths.map.len() > PATHS_MAX {
            let told = format!("these are {}, and {PATHS_MAX} may be", paths.map.len());
            return self.wrong("/paths", told);
        }
        for (written, item) in paths.map.iter().filter(|(name, _)| !name.starts_with("x-")) {
            self.path(written, &below("/paths", written), item);
        }
    }

    /// The path below which all others are.
    fn servers(&mut self, root: &Object<'d>) {
        let Some(servers) = root.map.get("servers") else { return };
        let Some(servers) = servers.as_array() else {
            return self.wrong("/servers", format!("expected a list, found {}", found(servers)));
        };
        let mut bases: Vec<&str> = Vec::new();
        for (index, server) in servers.iter().enumerate() {
            let pointer = format!("/servers/{index}/url");
            let Some(url) = server.get("url").and_then(Json::as_str) else {
                self.wrong(&pointer, "expected the address of a server");
                continue;
            };
            let path = match url.split_once("://") {
                Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
                None => url,
            };
            let path = path.trim_end_matches('/');
            if url.contains('{') || !(path.is_empty() || path.starts_with('/')) {
                self.wrong(
                    &pointer,
                    "write an address without variables, or a path that begins with `/`",
                );
            } else if let Err(told) = segments(if path.is_empty() { "/" } else { path }) {
                self.wrong(&pointer, told);
            }
            bases.push(path);
        }
        bases.dedup();
        match bases[..] {
            [] => {}
            [base] => self.base = base.into(),
            _ => {
                let told = "the servers have different paths: leave the one that this workload has; its requests are judged as they come to it";
                self.wrong("/servers", told);
            }
        }
    }

    fn path(&mut self, written: &str, pointer: &str, item: &'d Json) {
        let segments = match segments(written) {
            Ok(segments) => segments,
            Err(told) => return self.wrong(pointer, told),
        };
        let names: Vec<Box<str>> = segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::Template(name) => Some(name.clone()),
                Segment::Literal(_) => None,
            })
            .collect();
        if let Err(told) = self.routes.add(written, segments) {
            return self.wrong(pointer, told);
        }
        let mut path = Path { names, methods: Vec::new() };
        if let Some(item) = self.resolved(pointer, item) {
            let mut known = vec!["summary", "description", "parameters"];
            known.extend(METHODS.iter().map(|(word, _)| *word));
            self.only(&item, &known);
            let shared = self.parameters(&item);
            for (word, method) in METHODS {
                let Some(operation) = item.map.get(word) else { continue };
                if self.operations.len() == OPERATIONS_MAX {
                    return self
                        .wrong("/paths", format!("it has more than {OPERATIONS_MAX} operations"));
                }
                let pointer = below(&item.pointer, word);
                let label = format!("{method} {written}");
                let Some(operation) =
                    self.operation(&pointer, operation, &label, &shared, &path.names)
                else {
                    continue;
                };
                path.methods.push((method, self.operations.len()));
                self.operations.push(operation);
            }
        }
        self.paths.push(path);
    }

    fn operation(
        &mut self,
        pointer: &str,
        value: &'d Json,
        label: &str,
        shared: &[Parameter],
        names: &[Box<str>],
    ) -> Option<Operation> {
        let object = self.object(pointer, value)?;
        let known = [
            "tags",
            "summary",
            "description",
            "externalDocs",
            "operationId",
            "parameters",
            "requestBody",
            "responses",
            "callbacks",
            "deprecated",
            "security",
        ];
        self.only(&object, &known);
        let mut parameters = self.parameters(&object);
        let is_own = |other: &&Parameter| {
            !parameters.iter().any(|own| own.name == other.name && own.place == other.place)
        };
        let inherited: Vec<Parameter> = shared.iter().filter(is_own).cloned().collect();
        parameters.extend(inherited);
        for name in names {
            if !parameters.iter().any(|it| it.place == Place::Path && it.name == *name) {
                let told = format!(
                    "`{{{name}}}` of the path is not among its `parameters`: say `in: path`, and what it may be"
                );
                self.wrong(pointer, told);
            }
        }
        for parameter in parameters.iter().filter(|it| it.place == Place::Path) {
            if !names.contains(&parameter.name) {
                self.wrong(&parameter.pointer, format!("the path has no `{{{}}}`", parameter.name));
            }
        }
        let body = object.map.get("requestBody");
        let body = body.and_then(|it| self.body(&below(pointer, "requestBody"), it));
        Some(Operation { label: label.into(), parameters, body })
    }

    fn parameters(&mut self, object: &Object<'d>) -> Vec<Parameter> {
        let Some(value) = object.map.get("parameters") else { return Vec::new() };
        let pointer = below(&object.pointer, "parameters");
        let Some(items) = value.as_array() else {
            self.wrong(&pointer, format!("expected a list, found {}", found(value)));
            return Vec::new();
        };
        if items.len() > PARAMETERS_MAX {
            self.wrong(&pointer, format!("these are {}, and {PARAMETERS_MAX} may be", items.len()));
            return Vec::new();
        }
        let mut all: Vec<Parameter> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Some(parameter) = self.parameter(&format!("{pointer}/{index}"), item) else {
                continue;
            };
            if all.iter().any(|it| it.name == parameter.name && it.place == parameter.place) {
                self.wrong(&parameter.pointer, "it stands already: keep one");
            }
            all.push(parameter);
        }
        all
    }

    fn parameter(&mut self, pointer: &str, value: &'d Json) -> Option<Parameter> {
        let object = self.resolved(pointer, value)?;
        let pointer = object.pointer.clone();
        let known = [
            "name",
            "in",
            "description",
            "required",
            "deprecated",
            "allowEmptyValue",
            "style",
            "explode",
            "allowReserved",
            "schema",
            "example",
            "examples",
            "content",
        ];
        self.only(&object, &known);
        let text =
            |name: &str| object.map.get(name).and_then(Json::as_str).filter(|it| !it.is_empty());
        let Some(name) = text("name") else {
            self.wrong(&pointer, "say its `name`");
            return None;
        };
        let place = match text("in") {
            Some("path") => Place::Path,
            Some("query") => Place::Query,
            Some("header") => Place::Header,
            Some("cookie") => {
                self.wrong(
                    &below(&pointer, "in"),
                    "parameters in cookies are not checked: leave it out",
                );
                return None;
            }
            _ => {
                self.wrong(&below(&pointer, "in"), "say `path`, `query` or `header`");
                return None;
            }
        };
        let of_others = ["accept", "content-type", "authorization"];
        if place == Place::Header && of_others.iter().any(|it| name.eq_ignore_ascii_case(it)) {
            // As OpenAPI says: it means nothing there.
            return None;
        }
        if object.map.contains_key("content") {
            let told = "a parameter that is a document of its own is not looked into: say `schema`";
            self.wrong(&below(&pointer, "content"), told);
        }
        if self.truth(&object, "allowReserved") {
            let told = "what is not encoded could be read as the next parameter: leave it out";
            self.wrong(&below(&pointer, "allowReserved"), told);
        }
        let form = if place == Place::Query { "form" } else { "simple" };
        if let Some(style) = object.map.get("style").filter(|it| it.as_str() != Some(form)) {
            let told = format!("{} is not read here; `{form}` is", found(style));
            self.wrong(&below(&pointer, "style"), told);
        }
        let is_required = self.truth(&object, "required");
        if place == Place::Path && !is_required {
            self.wrong(&pointer, "a parameter of a path is there: say `required: true`");
        }
        let is_exploded = !object.map.contains_key("explode") || self.truth(&object, "explode");
        let many = match (place, is_exploded) {
            (Place::Query, true) => Many::Repeated,
            (Place::Query, false) | (Place::Path | Place::Header, _) => Many::Commas,
        };
        let may_be_empty = self.truth(&object, "allowEmptyValue") && place == Place::Query;
        let Some(schema) = object.map.get("schema") else {
            self.wrong(&pointer, "say its `schema`: `{}` for any text");
            return None;
        };
        let schema = self.schemas.schema(&below(&pointer, "schema"), schema);
        let need = if is_required { Need::Required } else { Need::Optional };
        let name = match place {
            Place::Header => name.to_ascii_lowercase().into(),
            Place::Path | Place::Query => name.into(),
        };
        Some(Parameter { name, place, need, may_be_empty, many, schema, pointer: pointer.into() })
    }

    fn body(&mut self, pointer: &str, value: &'d Json) -> Option<Bodies> {
        let object = self.resolved(pointer, value)?;
        self.only(&object, &["description", "content", "required"]);
        let is_required = self.truth(&object, "required");
        let pointer = below(&object.pointer, "content");
        let Some(content) = object.map.get("content") else {
            self.wrong(&pointer, "it is missing: say which kinds of bodies there are");
            return None;
        };
        let content = self.object(&pointer, content)?;
        if content.map.len() > PARAMETERS_MAX {
            self.wrong(&pointer, format!("it has more than {PARAMETERS_MAX} kinds"));
            return None;
        }
        let mut kinds: Vec<(Media, Content)> = Vec::new();
        for (kind, value) in content.map.iter().filter(|(name, _)| !name.starts_with("x-")) {
            let pointer = below(&pointer, kind);
            let media = Media::read(kind).filter(|(media, parameters)| {
                are_plain(parameters) && (media.is_range() || !kind.contains('*'))
            });
            let Some((media, _)) = media else {
                self.wrong(
                    &pointer,
                    "write a kind of content without parameters, `application/json`",
                );
                continue;
            };
            if kinds.iter().any(|(known, _)| *known == media) {
                self.wrong(&pointer, "it stands already, in other letters: keep one");
            }
            let content = self.content(&pointer, &media, value);
            kinds.extend(content.map(|content| (media, content)));
        }
        Some(Bodies { is_required, kinds })
    }

    fn content(&mut self, pointer: &str, media: &Media, value: &'d Json) -> Option<Content> {
        let object = self.object(pointer, value)?;
        self.only(&object, &["schema", "example", "examples", "encoding"]);
        let Some(schema) = object.map.get("schema") else { return Some(Content::Any) };
        let pointer = below(pointer, "schema");
        if media.is_json() {
            return Some(Content::Json(self.schemas.schema(&pointer, schema)));
        }
        if !says_nothing(schema) {
            let told = "bodies of this kind are not looked into, JSON alone is: leave `schema` out, or say `type: string` alone";
            self.wrong(&pointer, told);
        }
        Some(Content::Any)
    }
}

/// Whether a schema says no more than that there are bytes.
fn says_nothing(schema: &Json) -> bool {
    let remarks = [
        "type",
        "format",
        "contentEncoding",
        "contentMediaType",
        "title",
        "description",
        "example",
        "examples",
    ];
    match schema {
        Json::Bool(truth) => *truth,
        Json::Object(map) => {
            map.keys().all(|name| remarks.contains(&name.as_str()) || name.starts_with("x-"))
                && map.get("type").is_none_or(|it| it == "string")
        }
        _ => false,
    }
}
