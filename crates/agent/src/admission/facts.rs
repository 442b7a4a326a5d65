//! Facts for a review that waits: from caches that watches keep, and by asking where no cache can know.
//!
//! What cannot be told is an error, never an absence: a policy would read an absence as an answer.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use nullius_admission::webhook::{Fact, Review, picks};
use nullius_kube::admission::{AccessQuestion, AccessTarget, AccessVerdict, Questions};
use nullius_policy::admission_policy::{
    Need, ParamQuery, Pick, User,
    authz::{AccessCheck, Subject, Target, Verdict},
};
use serde_json::Value;
use tokio::time::Instant;

use super::policies::Standing;
use crate::{admission::Engines, error::chain};

/// Fetches facts.
pub(crate) struct FactSource {
    questions: Questions,
    engines: Engines,
}

impl FactSource {
    pub(crate) fn new(questions: Questions, engines: Engines) -> Self {
        Self { questions, engines }
    }

    /// Tells a review what nearly all need and a cache knows, so that it need not ask.
    pub(crate) fn foretell(&self, review: &mut Review) {
        let name = &review.request().namespace;
        if let Some(found) = self.engines.namespace(name) {
            let need = Need::Namespace(name.clone());
            review.learn(need, Ok(Fact::Namespace(Some(found))));
        }
    }

    /// Fetches what a review needs, all at once, until its answer is of no more use.
    pub(crate) async fn fetch(
        &self,
        review: &mut Review,
        standing: &Standing,
        needs: impl IntoIterator<Item = Need>,
        use_by: Instant,
    ) {
        let user = &review.request().user;
        let facts = join_all(needs.into_iter().map(|need| async move {
            let left =
                use_by.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let fact = tokio::time::timeout(left, self.one(user, standing, &need)).await;
            (
                need,
                fact.unwrap_or_else(|_| Err("the API server does not say it in time".to_owned())),
            )
        }));
        for (need, fact) in facts.await {
            review.learn(need, fact);
        }
    }

    /// A namespace as the API server has it now.
    pub(crate) async fn fresh_namespace(
        &self,
        name: &str,
        use_by: Instant,
    ) -> Result<Option<Value>, String> {
        let asked = tokio::time::timeout_at(use_by, self.questions.namespace(name)).await;
        let answer = asked.map_err(|_| "the API server does not say it in time".to_owned())?;
        answer.map_err(|error| chain(&error))
    }

    async fn one(&self, user: &User, standing: &Standing, need: &Need) -> Result<Fact, String> {
        match need {
            Need::Namespace(name) => self.namespace(name).await.map(Fact::Namespace),
            Need::Params(query) => self.params(standing, query).map(Fact::Params),
            Need::Access(check) => {
                let answer = self.questions.access(question(user, check)).await;
                Ok(Fact::Access(match answer.map_err(|error| chain(&error))? {
                    AccessVerdict::Allow(reason) => Verdict::Allow { reason },
                    AccessVerdict::Deny(reason) => Verdict::Deny { reason },
                    AccessVerdict::Fail(error) => Verdict::Fail { error },
                }))
            }
            Need::Kind(_) | Need::Shape(_) | Need::Conversion(_) => {
                Err("only the kinds of the cluster say it".to_owned())
            }
        }
    }

    /// A namespace that was made a moment ago is not in the cache yet.
    async fn namespace(&self, name: &str) -> Result<Option<Arc<Value>>, String> {
        if let Some(found) = self.engines.namespace(name) {
            return Ok(Some(found));
        }
        let found = self.questions.namespace(name).await.map_err(|error| chain(&error))?;
        Ok(found.map(Arc::new))
    }

    /// Parameters that came with policies count first.
    fn params(&self, standing: &Standing, query: &ParamQuery) -> Result<Vec<Value>, String> {
        let mut found = standing.engine.in_force().params(query);
        if matches!(query.pick, Pick::Named(_)) && !found.is_empty() {
            return Ok(found);
        }
        let name = |object: &Value| object.pointer("/metadata/name").cloned();
        let known: Vec<Option<Value>> = found.iter().map(name).collect();
        let mut caches = standing.params.iter().filter(|(source, _)| source.holds(query));
        let (_, cache) = caches.next().ok_or("objects of its kind are not watched")?;
        let there = cache.all_of(query.namespace.as_deref().unwrap_or_default())?;
        let picked = there.into_iter().filter(|object| picks(query, object));
        let fresh = picked.filter(|object| !known.contains(&name(object)));
        found.extend(fresh.map(|object| Value::clone(&object)));
        Ok(found)
    }
}

fn question(user: &User, check: &AccessCheck) -> AccessQuestion {
    let target = match &check.target {
        Target::Path(path) => AccessTarget::Path(path.clone()),
        Target::Resource(target) => AccessTarget::Resource {
            group: target.group.clone(),
            resource: target.resource.clone(),
            subresource: target.subresource.clone(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            field_selector: target.field_selector.clone(),
            label_selector: target.label_selector.clone(),
        },
    };
    let verb = check.verb.clone();
    match &check.subject {
        Subject::Requester => {
            let texts = |value: &Value| -> Vec<String> {
                let items = value.as_array().into_iter().flatten();
                items.filter_map(Value::as_str).map(str::to_owned).collect()
            };
            AccessQuestion {
                user: user.username.clone(),
                uid: user.uid.clone(),
                groups: user.groups.clone(),
                extra: user.extra.iter().map(|(key, value)| (key.clone(), texts(value))).collect(),
                verb,
                target,
            }
        }
        Subject::ServiceAccount { namespace, name } => AccessQuestion {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            verb,
            target,
            ..AccessQuestion::default()
        },
    }
}
