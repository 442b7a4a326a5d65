//! Requests on an accepted connection: judged by the rules of its source that were left, and by no others.

use std::sync::Arc;

use nullius_model::{IntentionAction, IntentionMode, Reason};

use crate::{
    accept::{Accept, By, Facts, Layer, Ruling, Standing, Verdict},
    api::{Api, BodyChecks, Work},
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
    /// What schemas of the API are still to be asked about the body of an allowed request, before it may go on.
    pub body: BodyChecks,
}

impl Accept {
    /// Judges a request of this connection; tokens are those that were verified.
    ///
    /// The request must have been read as [`Accept::reads`] says: one that was read for less is denied.
    pub fn judge(&self, request: &Request<'_>, tokens: &[Token]) -> Judged {
        if self.reads() == Reads::Paths && request.reads == Reads::NoPaths {
            let verdict = Verdict::new(Ruling::Deny, Reason::Unreadable, None);
            return Judged { verdict, shadow: None, body: BodyChecks::default() };
        }
        let of = |standing: &Standing| match standing {
            Standing::Decided(verdict) => verdict.clone(),
            Standing::Open(layers) => of_layers(layers, &self.facts, request, tokens),
        };
        let judged = Judged {
            verdict: of(&self.enforced),
            shadow: self.shadow.as_ref().map(of),
            body: BodyChecks::default(),
        };
        if self.apis.is_empty() { judged } else { self.declared(judged, request) }
    }

    /// Of what intentions allow only that may be which each schema declares.
    fn declared(&self, judged: Judged, request: &Request<'_>) -> Judged {
        let Judged { mut verdict, mut shadow, mut body } = judged;
        // Whoever may not call learns nothing of the schema.
        if !verdict.is_allowed() {
            return Judged { verdict, shadow, body };
        }
        let is_watched = |api: &&Arc<Api>| api.mode() == IntentionMode::Shadow;
        let mut would = shadow
            .take()
            .or_else(|| self.apis.iter().any(|api| is_watched(&api)).then(|| verdict.clone()));
        let mut work = Work::of_head();
        // Those that decide come first, so that what they refuse is told as what would be refused too.
        let decide = self.apis.iter().filter(|api| !is_watched(api));
        for api in decide.chain(self.apis.iter().filter(is_watched)) {
            let is_watched = is_watched(&api);
            match api.check(request, &mut work) {
                Ok(check) if is_watched => body.shadow.push(check),
                Ok(check) => body.enforced.push(check),
                Err(undeclared) => {
                    if !is_watched && verdict.is_allowed() {
                        verdict.refuse(undeclared.clone());
                    }
                    if let Some(would) = would.as_mut().filter(|would| would.is_allowed()) {
                        would.refuse(undeclared);
                    }
                }
            }
        }
        body.rest = work.rest();
        Judged { verdict, shadow: would, body }
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
