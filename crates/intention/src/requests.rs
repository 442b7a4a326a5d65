//! Requests on an accepted connection: judged by the rules of its source that were left, and by no others.

use std::sync::Arc;

use nullius_model::{IntentionAction, Reason};

use crate::{
    accept::{Accept, By, Facts, Layer, Ruling, Standing, Verdict},
    intention::Rule,
    matchers::Token,
    path::Reads,
    permission::Fit,
    request::Request,
};

/// What came of a request.
#[derive(Debug, Clone)]
#[must_use]
pub struct Judged {
    /// What decides.
    pub verdict: Verdict,
    /// What would decide if intentions that are only watched did; none where there is none.
    pub shadow: Option<Verdict>,
}

impl Accept {
    /// Judges a request of this connection; tokens are those that were verified.
    ///
    /// The request must have been read as [`Accept::reads`] says: one that was read for less is denied.
    pub fn judge(&self, request: &Request<'_>, tokens: &[Token]) -> Judged {
        if self.reads() == Reads::Paths && request.reads == Reads::NoPaths {
            let verdict = Verdict::new(Ruling::Deny, Reason::Unreadable, None);
            return Judged { verdict, shadow: None };
        }
        let of = |standing: &Standing| match standing {
            Standing::Decided(verdict) => verdict.clone(),
            Standing::Open(layers) => of_layers(layers, &self.facts, request, tokens),
        };
        Judged { verdict: of(&self.enforced), shadow: self.shadow.as_ref().map(of) }
    }
}

/// What comes of all tiers: the first that does not allow decides, else the last that allows.
fn of_layers(layers: &[Layer], facts: &Facts, request: &Request<'_>, tokens: &[Token]) -> Verdict {
    let mut allowed = None;
    for layer in layers {
        match of_layer(layer, facts, request, tokens) {
            Ok(by) => allowed = Some(by),
            Err(verdict) => return *verdict,
        }
    }
    match allowed {
        Some(by) => Verdict::new(Ruling::Allow, Reason::IntentionMatched, Some(by)),
        None => Verdict::new(Ruling::Deny, Reason::NoIntention, None),
    }
}

/// What comes of the rules of one exactness: each list has its say, and a deny of any is one.
fn of_layer(
    layer: &Layer,
    facts: &Facts,
    request: &Request<'_>,
    tokens: &[Token],
) -> Result<By, Box<Verdict>> {
    let mut allowed = layer.allowed.as_ref().map(By::rule);
    for rule in &layer.lists {
        match first_fit(rule, facts, request, tokens) {
            None => {}
            Some(Ok(by)) => allowed = Some(allowed.unwrap_or(by)),
            Some(Err(verdict)) => return Err(verdict),
        }
    }
    allowed.ok_or_else(|| {
        let nearest = layer.lists.first().map(|rule| By {
            rule: Arc::clone(rule),
            permission: rule
                .permissions()
                .iter()
                .position(|it| it.action == IntentionAction::Allow),
        });
        Box::new(Verdict::new(Ruling::Deny, Reason::NoPermission, nearest))
    })
}

/// The first permission of a list that is for the request; what cannot be told denies.
fn first_fit(
    rule: &Arc<Rule>,
    facts: &Facts,
    request: &Request<'_>,
    tokens: &[Token],
) -> Option<Result<By, Box<Verdict>>> {
    let refused = |reason, by, failure| {
        let mut verdict = Verdict::new(Ruling::Deny, reason, Some(by));
        verdict.failure = failure;
        Some(Err(Box::new(verdict)))
    };
    for (index, permission) in rule.permissions().iter().enumerate() {
        let by = || By { rule: Arc::clone(rule), permission: Some(index) };
        match permission.fit(facts, request, tokens) {
            Fit::Misses(_) => {}
            Fit::Unknown => return refused(Reason::UnknownReference, by(), None),
            Fit::Failed(told) => return refused(Reason::ConditionFailed, by(), Some(told)),
            Fit::Fits => match permission.action {
                IntentionAction::Allow => return Some(Ok(by())),
                IntentionAction::Deny => return refused(Reason::IntentionRefused, by(), None),
            },
        }
    }
    None
}
