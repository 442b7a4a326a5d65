//! The format library: Kubernetes' named formats and what they say of text that is none.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use regex::Regex;

use super::{Library, text, url};
use crate::{error::EvalError, time, types::Type, value::Value};

const FORMAT: Type = Type::Opaque("kubernetes.NamedFormat");

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS_1035: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

/// A named format.
#[derive(Debug)]
pub struct Format {
    /// The name by which an expression asks for it.
    pub name: &'static str,
    /// The function that yields it.
    function: &'static str,
    /// The size of the pattern that its cost counts.
    pub(crate) pattern_size: u64,
    check: fn(&str) -> Vec<String>,
}

impl Format {
    /// What is wrong with a text; nothing when it is of the format.
    #[must_use]
    pub fn check(&self, text: &str) -> Vec<String> {
        (self.check)(text)
    }
}

static FORMATS: [Format; 13] = [
    Format {
        name: "dns1123Label",
        function: "format.dns1123Label",
        pattern_size: 30,
        check: check_label,
    },
    Format {
        name: "dns1123Subdomain",
        function: "format.dns1123Subdomain",
        pattern_size: 60,
        check: check_subdomain,
    },
    Format {
        name: "dns1035Label",
        function: "format.dns1035Label",
        pattern_size: 30,
        check: check_dns_1035,
    },
    Format {
        name: "qualifiedName",
        function: "format.qualifiedName",
        pattern_size: 60,
        check: check_qualified_name,
    },
    Format {
        name: "dns1123LabelPrefix",
        function: "format.dns1123LabelPrefix",
        pattern_size: 30,
        check: |text| check_label(&without_dash(text)),
    },
    Format {
        name: "dns1123SubdomainPrefix",
        function: "format.dns1123SubdomainPrefix",
        pattern_size: 60,
        check: |text| check_subdomain(&without_dash(text)),
    },
    Format {
        name: "dns1035LabelPrefix",
        function: "format.dns1035LabelPrefix",
        pattern_size: 30,
        check: |text| check_dns_1035(&without_dash(text)),
    },
    Format {
        name: "labelValue",
        function: "format.labelValue",
        pattern_size: 40,
        check: check_label_value,
    },
    Format { name: "uri", function: "format.uri", pattern_size: 1104, check: check_uri },
    Format { name: "uuid", function: "format.uuid", pattern_size: 72, check: check_uuid },
    Format { name: "byte", function: "format.byte", pattern_size: 84, check: check_byte },
    Format { name: "date", function: "format.date", pattern_size: 72, check: check_date },
    Format {
        name: "datetime",
        function: "format.datetime",
        pattern_size: 72,
        check: check_datetime,
    },
];

/// Declares the library.
pub(crate) fn declare(library: &mut Library) {
    let runs: [super::Run; 13] = [
        |_, _| named(0),
        |_, _| named(1),
        |_, _| named(2),
        |_, _| named(3),
        |_, _| named(4),
        |_, _| named(5),
        |_, _| named(6),
        |_, _| named(7),
        |_, _| named(8),
        |_, _| named(9),
        |_, _| named(10),
        |_, _| named(11),
        |_, _| named(12),
    ];
    for (format, run) in FORMATS.iter().zip(runs) {
        library.global(format.function, format.function, [], FORMAT, run);
    }
    library.global(
        "format.named",
        "format-named",
        [Type::String],
        Type::optional(FORMAT),
        |_, args| {
            let wanted = text(args, 0)?;
            let found = FORMATS.iter().find(|format| format.name == wanted);
            Ok(found.map_or(Value::Optional(None), |format| Value::some(Value::Format(format))))
        },
    );
    library.member(
        "validate",
        "format-validate",
        [FORMAT, Type::String],
        Type::optional(Type::list(Type::String)),
        |_, args| {
            let Some(Value::Format(format)) = args.first() else {
                return Err(EvalError::no_overload());
            };
            let wrong = format.check(text(args, 1)?);
            if wrong.is_empty() {
                return Ok(Value::Optional(None));
            }
            Ok(Value::some(Value::list(wrong.into_iter().map(Value::string).collect())))
        },
    );
}

fn named<'a>(at: usize) -> Result<Value<'a>, EvalError> {
    FORMATS.get(at).map(Value::Format).ok_or_else(EvalError::no_overload)
}

/// A prefix may end in a dash: what follows it would make it a name.
fn without_dash(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(before) if !before.is_empty() => {
            let mut masked: String = before.to_owned();
            masked.pop();
            masked.push('a');
            masked
        }
        _ => text.to_owned(),
    }
}

fn anchored(pattern: &str) -> Option<Regex> {
    Regex::new(&format!("^(?:{pattern})$")).ok()
}

macro_rules! pattern {
    ($name:ident, $source:expr) => {
        static $name: LazyLock<Option<Regex>> = LazyLock::new(|| anchored($source));
    };
}

pattern!(IS_LABEL, LABEL);
pattern!(IS_SUBDOMAIN, SUBDOMAIN);
pattern!(IS_DNS_1035, DNS_1035);
pattern!(IS_NAME, NAME);
pattern!(IS_LABEL_VALUE, LABEL_VALUE);
pattern!(IS_UUID, "(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}");

fn matches(pattern: &LazyLock<Option<Regex>>, text: &str) -> bool {
    pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

/// The API machinery's words for text that a pattern refuses.
fn refused(rule: &str, pattern: &str, examples: &[&str]) -> String {
    let mut shown = String::new();
    for (at, example) in examples.iter().enumerate() {
        if at > 0 {
            shown.push_str(" or ");
        }
        shown.push_str(&format!("'{example}', "));
    }
    format!("{rule} (e.g. {shown}regex used for validation is '{pattern}')")
}

fn check_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 63 {
        wrong.push("must be no more than 63 characters".to_owned());
    }
    if !matches(&IS_LABEL, text) {
        if matches(&IS_SUBDOMAIN, text) {
            wrong.push("must not contain dots".to_owned());
        } else {
            wrong.push(refused(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            ));
        }
    }
    wrong
}

fn check_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 253 {
        wrong.push("must be no more than 253 characters".to_owned());
    }
    if !matches(&IS_SUBDOMAIN, text) {
        wrong.push(refused(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN,
            &["example.com"],
        ));
    }
    wrong
}

fn check_dns_1035(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 63 {
        wrong.push("must be no more than 63 characters".to_owned());
    }
    if !matches(&IS_DNS_1035, text) {
        wrong.push(refused(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            DNS_1035,
            &["my-name", "abc-123"],
        ));
    }
    wrong
}

const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

fn check_qualified_name(text: &str) -> Vec<String> {
    let examples = ["MyName", "my.name", "123-abc"];
    let parts: Vec<&str> = text.split('/').collect();
    let mut wrong = Vec::new();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(
                    check_subdomain(prefix).into_iter().map(|part| format!("prefix part {part}")),
                );
            }
            name
        }
        _ => {
            let rule = refused(&format!("a valid label key {NAME_RULE}"), NAME, &examples);
            return vec![format!(
                "{rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        wrong.push("name part must be no more than 63 bytes".to_owned());
    }
    if !matches(&IS_NAME, name) {
        wrong.push(format!("name part {}", refused(NAME_RULE, NAME, &examples)));
    }
    wrong
}

fn check_label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 63 {
        wrong.push("must be no more than 63 bytes".to_owned());
    }
    if !matches(&IS_LABEL_VALUE, text) {
        wrong.push(refused(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            LABEL_VALUE,
            &["MyValue", "my_value", "12345"],
        ));
    }
    wrong
}

fn check_uri(text: &str) -> Vec<String> {
    match url::check_request(text) {
        Ok(()) => Vec::new(),
        Err(reason) => vec![format!("parse {text:?}: {reason}")],
    }
}

fn unless(valid: bool, wrong: &str) -> Vec<String> {
    if valid { Vec::new() } else { vec![wrong.to_owned()] }
}

fn check_uuid(text: &str) -> Vec<String> {
    unless(matches(&IS_UUID, text), "does not match the UUID format")
}

fn check_byte(text: &str) -> Vec<String> {
    unless(!text.is_empty() && STANDARD.decode(text).is_ok(), "invalid base64")
}

fn check_date(text: &str) -> Vec<String> {
    unless(time::is_date(text), "invalid date")
}

fn check_datetime(text: &str) -> Vec<String> {
    let upper = text.to_ascii_uppercase();
    let valid = matches!(time::Timestamp::parse(&upper), Ok(Some(_))) && upper.contains('T');
    unless(valid, "invalid datetime")
}

/// Whether text is a DNS label.
pub(crate) fn is_label(text: &str) -> bool {
    check_label(text).is_empty()
}

/// Whether text is a DNS subdomain.
pub(crate) fn is_subdomain(text: &str) -> bool {
    check_subdomain(text).is_empty()
}
