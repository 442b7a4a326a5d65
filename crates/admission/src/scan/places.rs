//! Where in an object a policy fails: what its audit annotation `path` names, else the field that its expression looks at.

use nullius_policy::admission_policy::{PolicyTrace, Violation};

/// The key of the audit annotation with which a policy says which fields are wrong.
const KEY: &str = "path";
/// What stands between two fields of it.
const BETWEEN: &str = ", ";
/// The most fields of one finding.
const SPOTS_MAX: usize = 100;

/// The fields that a policy finds wrong, as far as they can be known.
pub(crate) fn paths_of(violation: &Violation, traces: &[PolicyTrace]) -> Vec<String> {
    let named = violation.annotations.iter().find(|(key, _)| key == KEY);
    if let Some((_, paths)) = named {
        return paths.split(BETWEEN).take(SPOTS_MAX).map(str::to_owned).collect();
    }
    looked_at(violation, traces).into_iter().collect()
}

/// The field that the failed expression looks at: the longest that it names, also by way of variables.
fn looked_at(violation: &Violation, traces: &[PolicyTrace]) -> Option<String> {
    let wanted = format!("validations[{}]", violation.validation?);
    let of = traces.iter().filter(|trace| trace.policy == violation.policy);
    let bindings = of.flat_map(|trace| &trace.bindings);
    let mut runs = bindings
        .filter(|trace| Some(&trace.binding) == violation.binding.as_ref())
        .flat_map(|trace| &trace.runs);
    let (run, expression) = runs.find_map(|run| {
        let found = run.validations.iter().find(|each| each.name == wanted)?;
        Some((run, found.expression.as_str()))
    })?;
    let mut fields = fields("object", expression);
    for variable in fields_of_variables(expression) {
        let source = run.variables.iter().find(|each| each.name == variable);
        fields.extend(source.into_iter().flat_map(|each| self::fields("object", &each.expression)));
    }
    let longest = fields.into_iter().rev().max_by_key(|field| field.matches(['.', '[']).count());
    longest.filter(|field| !field.is_empty())
}

fn fields_of_variables(expression: &str) -> Vec<String> {
    let all = fields("variables", expression).into_iter();
    all.map(|path| path.split(['.', '[']).next().unwrap_or_default().to_owned()).collect()
}

/// The chains of fields that begin at a word: `spec.replicas` of `object.spec.replicas <= 3`. Calls are no fields.
fn fields(root: &str, expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices(root) {
        let before = expression[..at].chars().next_back();
        if before.is_some_and(|letter| is_word(letter) || letter == '.') {
            continue;
        }
        let mut rest = &expression[at + root.len()..];
        let mut path = String::new();
        while let Some((step, after)) = step(rest) {
            if after.trim_start().starts_with('(') {
                break;
            }
            match step {
                Step::Field(name) if path.is_empty() => path.push_str(name),
                Step::Field(name) => path.extend([".", name]),
                Step::Key(key) => path.extend(["[", key, "]"]),
            }
            rest = after;
        }
        if !path.is_empty() {
            found.push(path);
        }
    }
    found
}

enum Step<'a> {
    Field(&'a str),
    Key(&'a str),
}

/// `.field`, `.?field`, `[0]`, `['key']`, `[?'key']`.
fn step(rest: &str) -> Option<(Step<'_>, &str)> {
    if let Some(rest) = rest.strip_prefix('.') {
        let rest = rest.strip_prefix('?').unwrap_or(rest);
        let end = rest.find(|letter| !is_word(letter)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        return (!name.is_empty()).then_some((Step::Field(name), rest));
    }
    let (inner, rest) = rest.strip_prefix('[')?.split_once(']')?;
    let inner = inner.strip_prefix('?').unwrap_or(inner).trim();
    let quoted = ['\'', '"']
        .into_iter()
        .find_map(|quote| inner.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote)));
    let is_index = !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_digit());
    quoted.or_else(|| is_index.then_some(inner)).map(|key| (Step::Key(key), rest))
}

fn is_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_an_expression_are_found() {
        let of = |expression: &str| fields("object", expression);
        assert_eq!(of("object.spec.replicas <= 3"), ["spec.replicas"]);
        assert_eq!(
            of("!has(object.spec.a) || object.spec.?b.orValue(1) > 2 || oldObject.x == 1"),
            ["spec.a", "spec.b"]
        );
        assert_eq!(
            of("object.metadata.labels['a.b/c'] == '' && object.spec.containers[0].image != ''"),
            ["metadata.labels[a.b/c]", "spec.containers[0].image"]
        );
        assert_eq!(of("object.spec.containers.all(c, c.image != '')"), ["spec.containers"]);
        assert_eq!(of("object.metadata[?'x'].hasValue()"), ["metadata[x]"]);
        assert!(of("myobject.x == 1 && has(object) && x.object.y && object[").is_empty());
        assert_eq!(fields_of_variables("variables.wrong.size() == 0"), ["wrong"]);
    }
}
