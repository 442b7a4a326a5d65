//! Objects as somebody reads them, with what is true this moment.

use nullius_access::{Caller, HubAction, ReadScope};
use nullius_model::{AnyObject, Identity, Kind, ObjectName, UserName};
use nullius_policy::decide_hub;
use nullius_store::StoreError;

use crate::{Hub, decide::Refusal, record::Occasion};

impl Hub {
    /// The objects of a kind that somebody may see.
    pub(crate) async fn list_objects(
        &self,
        identity: &Identity,
        kind: Kind,
        occasion: &Occasion,
    ) -> Result<Vec<AnyObject>, Refusal> {
        let permit = self.allow(identity, &HubAction::List { kind }, occasion).await?;
        let mut objects = self.store.read().await?.objects().list(kind).await?;
        if permit.scope() == ReadScope::Own {
            objects.retain(|object| self.may_see(identity, kind, object.name()));
        }
        Ok(self.shown(objects).await?)
    }

    /// Whether somebody may read one object; no use of its own, it is part of the list.
    pub(crate) fn may_see(&self, identity: &Identity, kind: Kind, name: &ObjectName) -> bool {
        let action = HubAction::Get { kind, name };
        decide_hub(&self.snapshot(), &Caller::new(identity), &action, self.now()).is_allowed()
    }

    /// One object, for somebody who may see it.
    pub(crate) async fn read_object(
        &self,
        identity: &Identity,
        kind: Kind,
        name: &ObjectName,
        occasion: &Occasion,
    ) -> Result<AnyObject, Refusal> {
        self.allow(identity, &HubAction::Get { kind, name }, occasion).await?;
        let object = self.store.read().await?.objects().get(kind, name.as_str()).await?;
        Ok(self.shown_one(object).await?)
    }

    /// An object as somebody reads it.
    pub(crate) async fn shown_one(&self, object: AnyObject) -> Result<AnyObject, StoreError> {
        let (kind, name) = (object.kind(), object.name().to_string());
        let gone = StoreError::NotFound { kind, name };
        self.shown(vec![object]).await?.pop().ok_or(gone)
    }

    async fn shown(&self, objects: Vec<AnyObject>) -> Result<Vec<AnyObject>, StoreError> {
        let mut shown = Vec::with_capacity(objects.len());
        let people = objects.iter().any(|object| object.kind() == Kind::User);
        let (enrolled, last_sign_ins) = if people {
            let mut reader = self.store.read().await?;
            (reader.credentials().enrolled().await?, reader.sessions().last_sign_ins().await?)
        } else {
            Default::default()
        };
        for mut object in objects {
            if let AnyObject::User(user) = &mut object
                && let Ok(name) = user.metadata.name.as_str().parse::<UserName>()
            {
                let status = user.status.get_or_insert_default();
                status.enrolled = enrolled.contains(&name);
                status.last_sign_in = last_sign_ins.get(&name).copied();
            }
            shown.push(self.with_live_status(object));
        }
        Ok(shown)
    }
}
