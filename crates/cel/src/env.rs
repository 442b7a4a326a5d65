//! Environments: which libraries, macros and switches an expression may use, by version of Kubernetes or as the
//! language's specification has them, and which variables stand for what.

use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use crate::{
    check::{self, Mode},
    error::CompileError,
    library::{self, Library, operators::Scalars},
    map::Keys,
    object::Objects,
    parse,
    profile::Profile,
    program::Program,
    stack,
    types::Type,
};

/// A minor version of Kubernetes 1.x; versions beyond the last that is known mean that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u16);

impl Version {
    /// The first version with policies in CEL that is spoken here.
    pub const FIRST: Version = Version(27);
    /// The last version whose libraries are known.
    pub const LATEST: Version = Version(37);

    /// Kubernetes 1.`minor`, held within the versions that are known.
    #[must_use]
    pub fn minor(minor: u16) -> Version {
        Version(minor.clamp(Version::FIRST.0, Version::LATEST.0))
    }

    fn has(self, minor: u16) -> bool {
        self.0 >= minor
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// Text that names no environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no environment: say `k8s-1.27` to `k8s-1.37`, or `spec`")]
pub struct UnknownEnv {
    /// What was given.
    pub name: String,
}

/// The languages that an environment can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The API server's.
    Kubernetes(Version),
    /// The specification's, with its extensions.
    Spec,
}

impl FromStr for Dialect {
    type Err = UnknownEnv;

    fn from_str(name: &str) -> Result<Dialect, UnknownEnv> {
        if name == "spec" {
            return Ok(Dialect::Spec);
        }
        let minor = name.strip_prefix("k8s-1.").and_then(|minor| minor.parse::<u16>().ok());
        match minor {
            Some(minor) if (Version::FIRST.0..=Version::LATEST.0).contains(&minor) => {
                Ok(Dialect::Kubernetes(Version(minor)))
            }
            _ => Err(UnknownEnv { name: name.to_owned() }),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dialect::Kubernetes(version) => write!(f, "k8s-{version}"),
            Dialect::Spec => f.write_str("spec"),
        }
    }
}

/// What expressions are compiled against.
#[derive(Clone, Debug)]
pub struct Env {
    pub(crate) profile: Profile,
    pub(crate) library: Arc<Library>,
    pub(crate) variables: BTreeMap<Arc<str>, Type>,
    pub(crate) objects: Objects,
    pub(crate) container: String,
    /// The most bytes that a regular expression may take that a program keeps, for each direction.
    pub(crate) expression_max: Option<usize>,
}

impl Env {
    /// The environment of a dialect, without variables.
    #[must_use]
    pub fn of(dialect: Dialect) -> Env {
        match dialect {
            Dialect::Kubernetes(version) => Env::kubernetes(version),
            Dialect::Spec => Env::spec(),
        }
    }

    /// The base environment of the API server of a version.
    #[must_use]
    pub fn kubernetes(version: Version) -> Env {
        const VERSIONS: usize = (Version::LATEST.0 - Version::FIRST.0) as usize + 1;
        static MADE: [OnceLock<Env>; VERSIONS] = [const { OnceLock::new() }; VERSIONS];
        // Programs share the declarations of what they call.
        match MADE.get(usize::from(version.0 - Version::FIRST.0)) {
            Some(made) => made.get_or_init(|| Env::declared(version)).clone(),
            None => Env::declared(version),
        }
    }

    /// An environment of its own, with the libraries of a version.
    fn declared(version: Version) -> Env {
        let profile = Profile {
            optionals: version.has(28),
            escaped_names: false,
            two_variables: version.has(32),
            sort_by: version.has(34),
            bind: false,
            math: false,
            homogeneous: true,
            literals: version.has(29),
            cross_type_order: version.has(28),
            millisecond_part: false,
            mapped_hexadecimal: false,
            scalars: Scalars::HaveNothing,
            keys: Keys::LastWins,
            fold_errors: true,
        };
        let mut library = Library::default();
        library::standard::declare(&mut library, &profile);
        library::url::declare(&mut library);
        library::regex::declare(&mut library);
        let strings = if version.has(29) {
            library::strings::Edition::Two
        } else {
            library::strings::Edition::Zero
        };
        library::strings::declare(&mut library, strings);
        library::authz::declare(&mut library);
        if version.has(28) {
            library::optionals::declare(&mut library);
            library::quantity::declare(&mut library);
        }
        if version.has(29) {
            library::sets::declare(&mut library);
        }
        if version.has(30) {
            library::ip::declare(&mut library, &profile);
            library::cidr::declare(&mut library, &profile);
        }
        if version.has(31) {
            library::format::declare(&mut library);
            library::authz::declare_selectors(&mut library);
        }
        if version.has(33) {
            library::semver::declare(&mut library);
        }
        if version.has(34) {
            library::lists::declare(&mut library);
        }
        library::k8s_lists::declare(&mut library);
        if version.has(37) {
            library::k8s_lists::declare_includes(&mut library);
        }
        Env::new(profile, library)
    }

    /// The language as its specification's tests have it, with all extensions.
    #[must_use]
    pub fn spec() -> Env {
        let profile = Profile {
            optionals: true,
            escaped_names: true,
            two_variables: true,
            sort_by: true,
            bind: true,
            math: true,
            homogeneous: false,
            literals: false,
            cross_type_order: true,
            millisecond_part: true,
            mapped_hexadecimal: true,
            scalars: Scalars::Refuse,
            keys: Keys::Unique,
            fold_errors: false,
        };
        let mut library = Library::default();
        library::standard::declare(&mut library, &profile);
        library::optionals::declare(&mut library);
        library::strings::declare(&mut library, library::strings::Edition::Latest);
        library::math::declare(&mut library);
        library::encoders::declare(&mut library);
        library::sets::declare(&mut library);
        library::lists::declare(&mut library);
        library::ip::declare(&mut library, &profile);
        library::cidr::declare(&mut library, &profile);
        Env::new(profile, library)
    }

    fn new(profile: Profile, library: Library) -> Env {
        Env {
            profile,
            library: Arc::new(library),
            variables: BTreeMap::new(),
            objects: Objects::default(),
            container: String::new(),
            expression_max: None,
        }
    }

    /// The environment with a variable of a type.
    #[must_use]
    pub fn with_variable(mut self, name: &str, of: Type) -> Env {
        self.variables.insert(Arc::from(name), of);
        self
    }

    /// The environment with object types.
    #[must_use]
    pub fn with_objects(mut self, objects: Objects) -> Env {
        self.objects = objects;
        self
    }

    /// The environment with what mutations construct: `Object`, `JSONPatch`, `jsonpatch.escapeKey`.
    #[must_use]
    pub fn with_mutation(mut self) -> Env {
        self.objects.declare_mutation();
        library::jsonpatch::declare(Arc::make_mut(&mut self.library));
        self
    }

    /// The environment in which names are looked up within a container first.
    #[must_use]
    pub fn with_container(mut self, container: &str) -> Env {
        container.clone_into(&mut self.container);
        self
    }

    /// The environment whose programs keep regular expressions of so many bytes at most, for each direction: others do not compile.
    #[must_use]
    pub fn with_expressions_of(mut self, most: usize) -> Env {
        self.expression_max = Some(most);
        self
    }

    /// Reads, checks and prepares an expression.
    ///
    /// # Errors
    ///
    /// Every mistake that was found, with its position, in the order of the source.
    pub fn compile(&self, source: &str) -> Result<Program, Vec<CompileError>> {
        self.compile_as(source, Mode::Checked)
    }

    /// Reads and prepares an expression without checking types: what is wrong errs when it runs.
    ///
    /// # Errors
    ///
    /// The mistakes that the parser found.
    pub fn compile_unchecked(&self, source: &str) -> Result<Program, Vec<CompileError>> {
        self.compile_as(source, Mode::Gradual)
    }

    fn compile_as(&self, source: &str, mode: Mode) -> Result<Program, Vec<CompileError>> {
        let compiled = stack::with_deep_stack(|| {
            let ast = parse::parse(source, &self.profile)?;
            let checked = check::check(ast, self, mode)?;
            Program::plan(checked, self)
        });
        compiled.unwrap_or_else(|| {
            Err(vec![CompileError::at(source, 0, "expression cannot be compiled: it is too deep")])
        })
    }

    /// The names that an identifier may stand for, the innermost container first.
    pub(crate) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(name) = name.strip_prefix('.') {
            return vec![name.to_owned()];
        }
        let mut candidates = Vec::new();
        let mut container = self.container.as_str();
        while !container.is_empty() {
            candidates.push(format!("{container}.{name}"));
            container = container.rfind('.').map_or("", |at| &container[..at]);
        }
        candidates.push(name.to_owned());
        candidates
    }
}
