//! Sources of an entry as those of an intention.

use nullius_fields::{Fault, nearest, shown};
use nullius_model::{
    IntentionAction, IntentionJwt, IntentionPath, IntentionPermission, IntentionSource,
};

use super::{
    Providers,
    entry::{ALL, Decision, Entry, Permission, Source, Wanted},
    services::{Account, Services},
};

/// What an entry is written by.
pub(super) struct Writer<'a> {
    pub(super) services: &'a Services,
    pub(super) providers: &'a Providers,
}

impl Writer<'_> {
    /// All sources, each with its namespace; every fault where one cannot be said.
    pub(super) fn sources(&self, entry: &Entry) -> Result<Vec<IntentionSource>, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut sources = Vec::new();
        for source in &entry.sources {
            let who = self.who(source, entry);
            let who =
                who.map_err(|told| vec![entry.fault(&format!("{}.name", source.path), &told)]);
            let decided = self.decided(source, entry);
            match (who, decided) {
                (Ok(who), Ok((action, permissions))) => {
                    sources.extend(who.into_iter().map(|who| IntentionSource {
                        action,
                        permissions: permissions.clone(),
                        ..who
                    }));
                }
                (who, decided) => {
                    faults.extend([who.err(), decided.err()].into_iter().flatten().flatten());
                }
            }
        }
        if faults.is_empty() { Ok(sources) } else { Err(faults) }
    }

    /// Whom a source names. All services of Consul are those of their namespace, and those that are elsewhere.
    fn who(&self, source: &Source, entry: &Entry) -> Result<Vec<IntentionSource>, String> {
        let account = |Account { namespace, name }: Account| IntentionSource {
            namespace: Some(namespace),
            service_account: Some(name),
            ..IntentionSource::default()
        };
        let (consul, name) = &source.service;
        if name != ALL {
            return self.services.account(&source.service).map(|it| vec![account(it)]);
        }
        let namespace = Some(self.services.namespace(consul)?.to_owned());
        let mut all = vec![IntentionSource { namespace, ..IntentionSource::default() }];
        let outside = self.services.outside(consul).into_iter();
        let unnamed = outside
            .filter(|(service, _)| !entry.sources.iter().any(|other| other.service == **service));
        all.extend(unnamed.map(|(_, it)| account(it.clone())));
        Ok(all)
    }

    fn decided(&self, source: &Source, entry: &Entry) -> Result<Decided, Vec<Fault>> {
        let permissions = match &source.decision {
            Decision::Action(IntentionAction::Allow) if !entry.tokens.is_empty() => {
                let requests = IntentionPermission {
                    action: IntentionAction::Allow,
                    ..IntentionPermission::default()
                };
                &vec![Permission { requests, tokens: Vec::new() }]
            }
            Decision::Action(action) => return Ok((Some(*action), Vec::new())),
            Decision::Permissions(permissions) => permissions,
        };
        let mut written = Vec::new();
        let mut faults = Vec::new();
        for (index, permission) in permissions.iter().enumerate() {
            let is_last = index + 1 == permissions.len();
            match self.permission(permission, is_last, entry) {
                Ok(some) => written.extend(some),
                Err(some) => faults.extend(some),
            }
        }
        if faults.is_empty() { Ok((None, written)) } else { Err(faults) }
    }

    /// A permission with each token that may be the one. To Consul a token is no part of what a permission is for: a request without
    /// one is denied and goes to none of the next.
    fn permission(
        &self,
        permission: &Permission,
        is_last: bool,
        entry: &Entry,
    ) -> Result<Vec<IntentionPermission>, Vec<Fault>> {
        let requests = &permission.requests;
        if requests.action == IntentionAction::Deny {
            return Ok(vec![for_some(requests.clone())]);
        }
        let tokens = self.tokens(&entry.tokens, &permission.tokens, entry)?;
        if tokens.is_empty() {
            return Ok(vec![for_some(requests.clone())]);
        }
        let with = |jwt| IntentionPermission { jwt: Some(jwt), ..requests.clone() };
        let mut all: Vec<_> = tokens.into_iter().map(with).collect();
        if !is_last {
            let action = IntentionAction::Deny;
            all.push(for_some(IntentionPermission { action, when: None, ..requests.clone() }));
        }
        Ok(all)
    }

    /// The tokens one of which must be there, by what is wanted of all callers and of one permission.
    fn tokens(
        &self,
        of_all: &[Wanted],
        own: &[Wanted],
        entry: &Entry,
    ) -> Result<Vec<IntentionJwt>, Vec<Fault>> {
        let (first, second) = if of_all.is_empty() { (own, of_all) } else { (of_all, own) };
        let mut tokens = Vec::new();
        let mut faults = Vec::new();
        for one in first {
            let others = second.iter().map(Some).chain(second.is_empty().then_some(None));
            for other in others {
                match self.token(one, other) {
                    Ok(token) => tokens.push(token),
                    Err((path, told)) => faults.push(entry.fault(&path, &told)),
                }
            }
        }
        if faults.is_empty() { Ok(tokens) } else { Err(faults) }
    }

    fn token(
        &self,
        one: &Wanted,
        other: Option<&Wanted>,
    ) -> Result<IntentionJwt, (String, String)> {
        if let Some(other) = other.filter(|other| other.provider != one.provider) {
            let told = "not carried over: two tokens at once, of two providers";
            return Err((other.path.clone(), told.to_owned()));
        }
        let path = || format!("{}.name", one.path);
        let name = &one.provider;
        let provider = self.providers.get(name).ok_or_else(|| {
            let near = match nearest(name, self.providers.keys().map(String::as_str)) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => ", which says who issues the token: give it too".to_owned(),
            };
            (path(), format!("there is no `jwt-provider` {}{near}", shown(name)))
        })?;
        let provider = provider
            .as_ref()
            .ok_or_else(|| (path(), format!("its `jwt-provider` {} was refused", shown(name))))?;
        let more = other.iter().flat_map(|other| &other.claims);
        Ok(IntentionJwt {
            issuer: provider.issuer.clone(),
            audiences: provider.audiences.clone(),
            claims: one.claims.iter().chain(more).cloned().collect(),
        })
    }
}

/// An action, or permissions in its place.
type Decided = (Option<IntentionAction>, Vec<IntentionPermission>);

/// What is for all requests says so.
fn for_some(mut requests: IntentionPermission) -> IntentionPermission {
    if requests.methods.is_empty() && requests.paths.is_empty() && requests.headers.is_empty() {
        let prefix = Some("/".to_owned());
        requests.paths = vec![IntentionPath { prefix, ..IntentionPath::default() }];
    }
    requests
}
