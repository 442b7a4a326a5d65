//! The semver library: versions of semantic versioning 2.0, compared by precedence.

use std::{cmp::Ordering, sync::Arc};

use super::{Library, text};
use crate::{
    error::{EvalError, Fallible},
    types::Type,
    value::Value,
};

const SEMVER: Type = Type::Opaque("kubernetes.Semver");

/// A semantic version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    major: u64,
    minor: u64,
    patch: u64,
    prerelease: Vec<Identifier>,
    build: Vec<String>,
}

/// A part of a prerelease; numbers come before names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Name(String),
}

/// Declares the library.
pub(crate) fn declare(library: &mut Library) {
    library.global("semver", "string_to_semver", [Type::String], SEMVER, |_, args| {
        parsed(text(args, 0)?, Form::Strict)
    });
    library.global(
        "semver",
        "string_bool_to_semver",
        [Type::String, Type::Bool],
        SEMVER,
        |_, args| parsed(text(args, 0)?, form(args)?),
    );
    library.global("isSemver", "is_semver_string", [Type::String], Type::Bool, |_, args| {
        Ok(Value::Bool(Semver::parse(text(args, 0)?, Form::Strict).is_ok()))
    });
    library.global(
        "isSemver",
        "is_semver_string_bool",
        [Type::String, Type::Bool],
        Type::Bool,
        |_, args| Ok(Value::Bool(Semver::parse(text(args, 0)?, form(args)?).is_ok())),
    );
    let pair = [SEMVER, SEMVER];
    library.member(
        "isGreaterThan",
        "semver_is_greater_than",
        pair.clone(),
        Type::Bool,
        |_, args| Ok(Value::Bool(semver(args, 0)?.compare(semver(args, 1)?).is_gt())),
    );
    library.member("isLessThan", "semver_is_less_than", pair.clone(), Type::Bool, |_, args| {
        Ok(Value::Bool(semver(args, 0)?.compare(semver(args, 1)?).is_lt()))
    });
    library.member("compareTo", "semver_compare_to", pair, Type::Int, |_, args| {
        Ok(Value::Int(semver(args, 0)?.compare(semver(args, 1)?) as i64))
    });
    library.member("major", "semver_major", [SEMVER], Type::Int, |_, args| {
        Ok(number(semver(args, 0)?.major))
    });
    library.member("minor", "semver_minor", [SEMVER], Type::Int, |_, args| {
        Ok(number(semver(args, 0)?.minor))
    });
    library.member("patch", "semver_patch", [SEMVER], Type::Int, |_, args| {
        Ok(number(semver(args, 0)?.patch))
    });
}

/// How strictly a version is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Strict,
    /// A leading `v`, leading zeros and missing parts are made good.
    Normalized,
}

fn form(args: &[Value<'_>]) -> Fallible<Form> {
    match args.get(1) {
        Some(Value::Bool(true)) => Ok(Form::Normalized),
        Some(Value::Bool(false)) => Ok(Form::Strict),
        _ => Err(EvalError::no_overload()),
    }
}

fn parsed<'a>(source: &str, form: Form) -> Fallible<Value<'a>> {
    let version = Semver::parse(source, form).map_err(EvalError::Failed)?;
    Ok(Value::Semver(Arc::new(version)))
}

fn semver<'v>(args: &'v [Value<'_>], at: usize) -> Fallible<&'v Semver> {
    match args.get(at) {
        Some(Value::Semver(version)) => Ok(version),
        _ => Err(EvalError::no_overload()),
    }
}

fn number<'a>(part: u64) -> Value<'a> {
    Value::Int(part.cast_signed())
}

impl Semver {
    pub(crate) fn compare(&self, other: &Semver) -> Ordering {
        let release = (self.major, self.minor, self.patch);
        let other_release = (other.major, other.minor, other.patch);
        release.cmp(&other_release).then_with(|| {
            match (self.prerelease.is_empty(), other.prerelease.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => self.prerelease.cmp(&other.prerelease),
            }
        })
    }

    fn parse(source: &str, form: Form) -> Result<Semver, String> {
        if form == Form::Normalized {
            return Semver::parse_strict(&normalize(source)?);
        }
        Semver::parse_strict(source)
    }

    fn parse_strict(source: &str) -> Result<Semver, String> {
        if source.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let parts: Vec<&str> = source.splitn(3, '.').collect();
        let [major, minor, rest] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let major = release_number(major, "Major")?;
        let minor = release_number(minor, "Minor")?;
        let (rest, build) =
            rest.split_once('+').map_or((*rest, None), |(rest, build)| (rest, Some(build)));
        let (patch, prerelease) =
            rest.split_once('-').map_or((rest, None), |(patch, pre)| (patch, Some(pre)));
        let patch = release_number(patch, "Patch")?;
        let prerelease = prerelease
            .map(|parts| parts.split('.').map(identifier).collect::<Result<Vec<_>, _>>())
            .transpose()?
            .unwrap_or_default();
        let build = build
            .map(|parts| parts.split('.').map(build_part).collect::<Result<Vec<_>, _>>())
            .transpose()?
            .unwrap_or_default();
        Ok(Semver { major, minor, patch, prerelease, build })
    }
}

fn release_number(digits: &str, name: &str) -> Result<u64, String> {
    if digits.is_empty() {
        return Err("strconv.ParseUint: parsing \"\": invalid syntax".to_owned());
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let name = name.to_ascii_lowercase();
        return Err(format!("Invalid character(s) found in {name} number {digits:?}"));
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return Err(format!("{name} number must not contain leading zeroes {digits:?}"));
    }
    digits.parse().map_err(|_| out_of_range(digits))
}

fn is_identifier(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn identifier(part: &str) -> Result<Identifier, String> {
    if part.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if !is_identifier(part) {
        return Err(format!("Invalid character(s) found in prerelease {part:?}"));
    }
    if !part.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Identifier::Name(part.to_owned()));
    }
    if part.len() > 1 && part.starts_with('0') {
        return Err(format!("Numeric PreRelease version must not contain leading zeroes {part:?}"));
    }
    part.parse().map(Identifier::Number).map_err(|_| out_of_range(part))
}

fn out_of_range(digits: &str) -> String {
    format!("strconv.ParseUint: parsing {digits:?}: value out of range")
}

fn build_part(part: &str) -> Result<String, String> {
    if part.is_empty() {
        return Err("Build meta data is empty".to_owned());
    }
    if !is_identifier(part) {
        return Err(format!("Invalid character(s) found in build meta data {part:?}"));
    }
    Ok(part.to_owned())
}

/// Without a `v`, without leading zeros, with all three parts.
fn normalize(source: &str) -> Result<String, String> {
    let source = source.strip_prefix('v').unwrap_or(source);
    let mut parts: Vec<String> = source
        .splitn(3, '.')
        .map(|part| {
            if part.len() <= 1 {
                return part.to_owned();
            }
            let trimmed = part.trim_start_matches('0');
            if trimmed.starts_with(|c: char| c.is_ascii_digit()) {
                trimmed.to_owned()
            } else {
                format!("0{trimmed}")
            }
        })
        .collect();
    if parts.len() < 3 {
        if parts.last().is_some_and(|last| last.contains(['+', '-'])) {
            return Err("short version cannot contain PreRelease/Build meta data".to_owned());
        }
        parts.resize(3, "0".to_owned());
    }
    Ok(parts.join("."))
}
