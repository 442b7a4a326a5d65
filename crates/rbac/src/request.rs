//! One canonical reading of a request to an API server: what is authorised is exactly what is forwarded.
//!
//! The reading is that of the API server's request-info factory (k8s.io/apiserver, endpoints/request). It is
//! stricter where a second reader could see another path: such a request is refused, never repaired. Two
//! liberties of real clients are kept, since they leave nothing open: one slash at the end of a path that names
//! no resource (`/apis/`), and whatever path follows `…/proxy/`, which the decision does not look at.

use std::fmt;

use nullius_model::{Explanation, Reason};

use crate::{Attributes, ResourceAttributes, query};

/// The longest path with query that is read.
pub const MAX_TARGET_BYTES: usize = 8 * 1024;

/// A method that Kubernetes serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 7] =
        [Self::Get, Self::Head, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Options];

    /// The method as it stands in a request.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    fn parse(text: &str) -> Result<Self, UnreadablePath> {
        let known = Self::ALL.into_iter().find(|method| method.as_str() == text);
        known.ok_or(UnreadablePath::Method)
    }

    fn verb_on_url(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Post => "post",
            Self::Put => "put",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Options => "options",
        }
    }

    /// The verb on a resource; `OPTIONS` has none, so that only a rule with `*` allows it.
    fn verb_on_resource(self) -> &'static str {
        match self {
            Self::Get | Self::Head => "get",
            Self::Post => "create",
            Self::Put => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::Options => "",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request line that cannot be read in exactly one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnreadablePath {
    /// The method is none of [`Method`].
    #[error("the method is none that Kubernetes serves")]
    Method,
    /// Longer than [`MAX_TARGET_BYTES`].
    #[error("path and query are longer than {MAX_TARGET_BYTES} bytes")]
    TooLong,
    /// The path does not begin with `/`.
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    /// Two slashes follow each other, or one ends the path of a resource.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A segment is `.` or `..`.
    #[error("the path has a segment `.` or `..`")]
    DotSegment,
    /// A byte that may not stand in a request line, for example a control byte, a backslash or a non-ASCII one.
    #[error("path or query has the byte {0:#04x}, which may not stand there")]
    Byte(u8),
    /// A percent sign without two digits, or one that hides a slash, a dot, a percent sign or a plain letter.
    #[error("path or query has a percent encoding that two servers could read differently")]
    Encoding,
    /// `/api/v1/watch` and nothing behind it.
    #[error("the path names a verb but no resource")]
    NoResource,
}

impl UnreadablePath {
    /// The refusal for people and audit.
    pub fn explanation(&self) -> Explanation {
        Explanation::new(Reason::Unreadable, self.to_string())
            .with_next("send the path as kubectl would, each name once and without tricks in it")
    }
}

/// A request to an API server, read once. Its fields cannot change after they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestInfo {
    method: Method,
    target: Box<str>,
    path_bytes: usize,
    path: Box<str>,
    verb: &'static str,
    resource: Option<ResourcePath>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ResourcePath {
    prefix: ApiPrefix,
    group: Box<str>,
    version: Box<str>,
    namespace: Box<str>,
    resource: Box<str>,
    subresource: Box<str>,
    name: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ApiPrefix {
    Api,
    Apis,
}

impl RequestInfo {
    /// Reads a method and the path with query of an origin-form request line.
    pub fn parse(method: &str, path_and_query: &str) -> Result<Self, UnreadablePath> {
        let method = Method::parse(method)?;
        if path_and_query.len() > MAX_TARGET_BYTES {
            return Err(UnreadablePath::TooLong);
        }
        let (raw_path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let path = Path::read(raw_path)?;
        check_query(query.unwrap_or_default())?;

        let mut info = Self {
            method,
            target: path_and_query.into(),
            path_bytes: raw_path.len(),
            path: path.decoded().into(),
            verb: method.verb_on_url(),
            resource: None,
        };
        match resource_path(&path, method)? {
            None => path.require_plain(path.segments.len())?,
            Some(found) => {
                path.require_plain(found.free_from.unwrap_or(path.segments.len()))?;
                if path.trailing_slash && found.free_from.is_none() {
                    return Err(UnreadablePath::EmptySegment);
                }
                info.verb = found.verb;
                info.resource = Some(found.resource);
            }
        }
        info.settle_verb(query.unwrap_or_default())?;
        Ok(info)
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// Path and query exactly as they are to be forwarded.
    pub fn path_and_query(&self) -> &str {
        &self.target
    }

    /// The path as it is to be forwarded, still encoded.
    pub fn raw_path(&self) -> &str {
        &self.target[..self.path_bytes]
    }

    /// The query as it is to be forwarded, still encoded; none where there is no `?`.
    pub fn raw_query(&self) -> Option<&str> {
        self.target.get(self.path_bytes + 1..)
    }

    /// The path with its percent encodings resolved.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The verb as Kubernetes names it; streams into containers are `create` by any method.
    pub fn verb(&self) -> &str {
        self.attributes().verb
    }

    /// Whether the path names a resource.
    pub fn is_resource(&self) -> bool {
        self.resource.is_some()
    }

    /// `api` or `apis` for a resource, else empty.
    pub fn api_prefix(&self) -> &str {
        match self.resource.as_ref().map(|resource| resource.prefix) {
            Some(ApiPrefix::Api) => "api",
            Some(ApiPrefix::Apis) => "apis",
            None => "",
        }
    }

    /// API group, empty for core.
    pub fn api_group(&self) -> &str {
        self.resource.as_ref().map_or("", |resource| &resource.group)
    }

    /// API version.
    pub fn api_version(&self) -> &str {
        self.resource.as_ref().map_or("", |resource| &resource.version)
    }

    /// Namespace, empty for cluster-scoped objects and for all namespaces.
    pub fn namespace(&self) -> &str {
        self.resource.as_ref().map_or("", |resource| &resource.namespace)
    }

    /// Resource.
    pub fn resource(&self) -> &str {
        self.resource.as_ref().map_or("", |resource| &resource.resource)
    }

    /// Subresource.
    pub fn subresource(&self) -> &str {
        self.resource.as_ref().map_or("", |resource| &resource.subresource)
    }

    /// Object name, from the path or pinned by a field selector.
    pub fn name(&self) -> &str {
        self.resource.as_ref().map_or("", |resource| &resource.name)
    }

    /// What the request asks for, as rules judge it.
    pub fn attributes(&self) -> Attributes<'_> {
        match &self.resource {
            None => Attributes::url(self.verb, &self.path),
            Some(resource) => Attributes::resource(
                self.verb,
                ResourceAttributes {
                    group: &resource.group,
                    resource: &resource.resource,
                    subresource: &resource.subresource,
                    namespace: &resource.namespace,
                    name: &resource.name,
                },
            )
            .judged(),
        }
    }

    /// A `get` or `delete` that names no object is a list, a watch or the deletion of a collection.
    fn settle_verb(&mut self, query: &str) -> Result<(), UnreadablePath> {
        let Some(resource) = &mut self.resource else { return Ok(()) };
        if !resource.name.is_empty() {
            return Ok(());
        }
        match self.verb {
            "get" => {
                let options = query::list_options(query).map_err(|_| UnreadablePath::Encoding)?;
                self.verb = if options.watch { "watch" } else { "list" };
                resource.name = options.name.into();
            }
            "delete" => self.verb = "deletecollection",
            _ => {}
        }
        Ok(())
    }
}

/// What the path says of a resource, before the query is looked at.
struct Found {
    verb: &'static str,
    resource: ResourcePath,
    /// The segment from which on the path belongs to a proxied application.
    free_from: Option<usize>,
}

fn resource_path(path: &Path, method: Method) -> Result<Option<Found>, UnreadablePath> {
    let segments = path.segments.as_slice();
    let (prefix, group, rest) = match segments {
        [Segment { text: api, .. }, rest @ ..] if api == "api" && rest.len() >= 2 => {
            (ApiPrefix::Api, "", rest)
        }
        [Segment { text: apis, .. }, group, rest @ ..] if apis == "apis" && rest.len() >= 2 => {
            (ApiPrefix::Apis, group.text.as_str(), rest)
        }
        _ => return Ok(None),
    };
    let [version, rest @ ..] = rest else { return Ok(None) };

    let (verb, mut parts) = match rest {
        [Segment { text: verb, .. }, parts @ ..] if verb == "watch" || verb == "proxy" => {
            let verb = if verb == "watch" { "watch" } else { "proxy" };
            if parts.is_empty() {
                return Err(UnreadablePath::NoResource);
            }
            (verb, parts)
        }
        parts => (method.verb_on_resource(), parts),
    };

    let mut namespace = "";
    if let [Segment { text: namespaces, .. }, name, behind @ ..] = parts
        && namespaces == "namespaces"
    {
        namespace = &name.text;
        if behind.first().is_some_and(|next| next.text != "status" && next.text != "finalize") {
            parts = behind;
        }
    }

    let part = |index: usize| parts.get(index).map_or("", |segment| segment.text.as_str());
    let subresource = if verb == "proxy" { "" } else { part(2) };
    let free_from =
        (subresource == "proxy").then(|| segments.len() - parts.len().saturating_sub(3));
    Ok(Some(Found {
        verb,
        resource: ResourcePath {
            prefix,
            group: group.into(),
            version: version.text.as_str().into(),
            namespace: namespace.into(),
            resource: part(0).into(),
            subresource: subresource.into(),
            name: part(1).into(),
        },
        free_from,
    }))
}

/// A path cut into its segments.
struct Path {
    segments: Vec<Segment>,
    trailing_slash: bool,
}

struct Segment {
    text: String,
    /// Whether bytes stand in it that only a proxied application's path may have.
    foreign: bool,
}

impl Path {
    fn read(raw: &str) -> Result<Self, UnreadablePath> {
        let inner = raw.strip_prefix('/').ok_or(UnreadablePath::NotAbsolute)?;
        let (inner, trailing_slash) = match inner.strip_suffix('/') {
            Some(inner) => (inner, true),
            None => (inner, false),
        };
        if inner.is_empty() {
            let root = Self { segments: Vec::new(), trailing_slash: false };
            return if trailing_slash { Err(UnreadablePath::EmptySegment) } else { Ok(root) };
        }
        let segments = inner.split('/').map(Segment::read).collect::<Result<_, _>>()?;
        Ok(Self { segments, trailing_slash })
    }

    fn decoded(&self) -> String {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            path.push_str(&segment.text);
        }
        if self.trailing_slash || self.segments.is_empty() {
            path.push('/');
        }
        path
    }

    /// Refuses bytes among the first `count` segments that only a proxied application's path may have.
    fn require_plain(&self, count: usize) -> Result<(), UnreadablePath> {
        let foreign = self.segments.iter().take(count).any(|segment| segment.foreign);
        if foreign { Err(UnreadablePath::Encoding) } else { Ok(()) }
    }
}

impl Segment {
    fn read(raw: &str) -> Result<Self, UnreadablePath> {
        match raw {
            "" => return Err(UnreadablePath::EmptySegment),
            "." | ".." => return Err(UnreadablePath::DotSegment),
            _ => {}
        }
        let mut decoded = Vec::with_capacity(raw.len());
        let mut foreign = false;
        let mut bytes = raw.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                if !is_path_byte(byte) {
                    return Err(UnreadablePath::Byte(byte));
                }
                decoded.push(byte);
                continue;
            }
            let hidden =
                query::hex_pair(bytes.next(), bytes.next()).ok_or(UnreadablePath::Encoding)?;
            match hidden {
                b'/' | b'\\' | b'.' | b'%' | b'-' | b'_' | b'~' | 0..=0x1f | 0x7f => {
                    return Err(UnreadablePath::Encoding);
                }
                plain if plain.is_ascii_alphanumeric() => return Err(UnreadablePath::Encoding),
                0x80.. => foreign = true,
                _ => {}
            }
            decoded.push(hidden);
        }
        let text = match String::from_utf8(decoded) {
            Ok(text) => text,
            Err(lossy) => String::from_utf8_lossy(lossy.as_bytes()).into_owned(),
        };
        Ok(Self { text, foreign })
    }
}

/// The bytes of RFC 3986 `pchar` without `%`.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte)
}

/// A query is passed on as it is; what could end it early or split it otherwise is refused.
fn check_query(query: &str) -> Result<(), UnreadablePath> {
    for byte in query.bytes() {
        if !byte.is_ascii_graphic() || b"#\\;\"<>".contains(&byte) {
            return Err(UnreadablePath::Byte(byte));
        }
    }
    query::pairs(query).map(|_| ()).map_err(|_| UnreadablePath::Encoding)
}

#[cfg(test)]
mod tests;
