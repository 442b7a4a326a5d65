//! Answers for people: the verdict, why, by which rule in which file, and what to do next.

use nullius_model::Explanation;

use super::{
    intake::Gathered,
    question::{Answer, Question, Word},
};
use crate::output::escape;

/// What comes of a call.
pub(super) fn answer(question: &Question, answer: &Answer, gathered: &Gathered) -> String {
    let mut text = String::new();
    let at = |id| match gathered.place_of(id) {
        Some(spot) => format!(" ({})", escape::cell(&spot.label())),
        None => String::new(),
    };
    match &answer.explanation {
        Some(explanation) => {
            let at = answer.decided_by().map(at).unwrap_or_default();
            text.push_str(&format!("{}: {}\n", answer.word.as_str(), explanation.reason.as_str()));
            explained(explanation, &at, &mut text);
        }
        None => {
            text.push_str(&format!(
                "requests decide: of {} to {} at port {}, by these{} in order\n",
                escape::cell(&caller(question)),
                escape::cell(&question.destination.to_string()),
                question.port,
                if answer.schemas.is_empty() { " permissions" } else { "" },
            ));
        }
    }
    if answer.word == Word::Requests {
        for rule in &answer.left {
            for (index, permission) in rule.permissions().iter().enumerate() {
                text.push_str(&format!(
                    "  {} {} sources[{}].permissions[{index}]{}\n",
                    permission.action().as_str(),
                    escape::cell(rule.intention()),
                    rule.index(),
                    at(permission.id())
                ));
            }
        }
        for schema in &answer.schemas {
            text.push_str(&format!("  declared by {}\n", escape::cell(schema)));
        }
        text.push_str("  next: say the request: `--method GET --path /…`\n");
    }
    if let Some(end) = answer.ends_at {
        text.push_str(&format!("until: {end}\n"));
    }
    if let Some(shadow) = &answer.shadow {
        let word = if shadow.allowed { "allowed" } else { "denied" };
        text.push_str(&format!("in shadow {word}: {}\n", shadow.explanation.reason.as_str()));
        let at = shadow.permission.as_ref().map(at).unwrap_or_default();
        explained(&shadow.explanation, &at, &mut text);
    }
    text
}

fn explained(explanation: &Explanation, at: &str, text: &mut String) {
    text.push_str(&format!("  {}\n", escape::cell(&explanation.sentence)));
    if let Some(rule) = &explanation.rule {
        text.push_str(&format!("  by: {}{at}\n", escape::cell(rule)));
    }
    if let Some(next) = &explanation.next {
        text.push_str(&format!("  next: {}\n", escape::cell(next)));
    }
}

fn caller(question: &Question) -> String {
    match &question.source {
        Some(id) => id.to_string(),
        None => question.address.to_string(),
    }
}
