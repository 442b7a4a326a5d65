//! Objects of the fleet: one revision for all of them, optimistic concurrency, status apart from spec.

use nullius_model::{AnyObject, Kind, ObjectName, Timestamp};
use serde_json::{Map, Value, json};

use crate::{
    StoreError,
    error::During as _,
    keys::advance,
    row::{Columns, Row, json_text, key, repository},
};

const REVISION: &str = "revision";

macro_rules! select {
    ($tail:literal) => {
        concat!(
            "SELECT kind, name, uid, generation, revision, created_at, labels, annotations, spec, \
             status FROM objects ",
            $tail
        )
    };
}

repository! {
    /// Reads objects.
    Objects,
    /// Changes objects; also reads them as the transaction sees them.
    ObjectsMut
}

/// What an object must still be for a change to happen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Precondition {
    /// The object's UID.
    pub uid: Option<String>,
    /// The object's resource version.
    pub resource_version: Option<String>,
}

/// One change of an object, for caches that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredChange {
    /// The object is now this.
    Put {
        /// The revision of the change.
        revision: u64,
        /// The object.
        object: Box<AnyObject>,
    },
    /// The object is gone.
    Deleted {
        /// The revision of the change.
        revision: u64,
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: ObjectName,
        /// Its UID.
        uid: String,
    },
}

impl StoredChange {
    /// The revision of the change.
    pub fn revision(&self) -> u64 {
        match self {
            Self::Put { revision, .. } | Self::Deleted { revision, .. } => *revision,
        }
    }
}

impl Precondition {
    /// What an object says of itself: with a UID or a resource version in it, they must still hold.
    pub fn of(object: &AnyObject) -> Self {
        let metadata = object.metadata();
        Self { uid: metadata.uid.clone(), resource_version: metadata.resource_version.clone() }
    }

    fn check(&self, object: &AnyObject) -> Result<(), StoreError> {
        let metadata = object.metadata();
        let fields = [
            ("uid", &self.uid, &metadata.uid),
            ("resourceVersion", &self.resource_version, &metadata.resource_version),
        ];
        for (field, wanted, found) in fields {
            if let Some(wanted) = wanted
                && Some(wanted) != found.as_ref()
            {
                return Err(StoreError::Conflict {
                    kind: object.kind(),
                    name: metadata.name.to_string(),
                    field,
                    wanted: wanted.chars().take(80).flat_map(char::escape_debug).collect(),
                    found: found.clone().unwrap_or_default(),
                });
            }
        }
        Ok(())
    }
}

impl Objects<'_> {
    /// The object, if it is there.
    pub async fn find(&mut self, kind: Kind, name: &str) -> Result<Option<AnyObject>, StoreError> {
        let row = sqlx::query(select!("WHERE kind = $1 AND name = $2"))
            .bind(kind.as_str())
            .bind(name)
            .fetch_optional(&mut *self.conn)
            .await
            .during("read an object")?;
        row.as_ref().map(read).transpose()
    }

    /// The object; an error that says how to see what there is when it is not there.
    pub async fn get(&mut self, kind: Kind, name: &str) -> Result<AnyObject, StoreError> {
        let found = self.find(kind, name).await?;
        found.ok_or_else(|| StoreError::NotFound { kind, name: escaped(name) })
    }

    /// All objects of a kind, by name.
    pub async fn list(&mut self, kind: Kind) -> Result<Vec<AnyObject>, StoreError> {
        let rows = sqlx::query(select!("WHERE kind = $1 ORDER BY name"))
            .bind(kind.as_str())
            .fetch_all(&mut *self.conn)
            .await
            .during("list objects")?;
        rows.iter().map(read).collect()
    }

    /// All objects of all kinds with the revision that they stand at.
    pub async fn load_all(&mut self) -> Result<(u64, Vec<AnyObject>), StoreError> {
        // The revision is read first: what is written between the two reads is seen again as a change, never missed.
        let revision = self.revision().await?;
        let rows = sqlx::query(select!("ORDER BY kind, name"))
            .fetch_all(&mut *self.conn)
            .await
            .during("load all objects")?;
        Ok((revision, rows.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// What changed after a revision, oldest first; of an object changed often, the newest state alone.
    pub async fn changes_since(&mut self, revision: u64) -> Result<Vec<StoredChange>, StoreError> {
        let after = crate::row::stored(revision);
        let rows = sqlx::query(select!("WHERE revision > $1"))
            .bind(after)
            .fetch_all(&mut *self.conn)
            .await
            .during("read changed objects")?;
        let mut changes = Vec::with_capacity(rows.len());
        for row in &rows {
            let revision = Columns::new(row, "object").count(REVISION)?;
            changes.push(StoredChange::Put { revision, object: Box::new(read(row)?) });
        }
        let rows = sqlx::query(
            "SELECT revision, kind, name, uid FROM object_tombstones WHERE revision > $1",
        )
        .bind(after)
        .fetch_all(&mut *self.conn)
        .await
        .during("read deleted objects")?;
        for row in &rows {
            let columns = Columns::new(row, "deleted object");
            changes.push(StoredChange::Deleted {
                revision: columns.count(REVISION)?,
                kind: columns.word("kind")?,
                name: columns.parsed("name")?,
                uid: columns.text("uid")?,
            });
        }
        changes.sort_by_key(StoredChange::revision);
        Ok(changes)
    }

    /// The newest revision; 0 before the first change.
    pub async fn revision(&mut self) -> Result<u64, StoreError> {
        crate::keys::counter(self.conn, REVISION).await
    }
}

impl ObjectsMut<'_> {
    /// Creates an object: UID, generation 1, revision and time are set here; a status in it is not taken over.
    pub async fn create(
        &mut self,
        object: &AnyObject,
        now: Timestamp,
    ) -> Result<AnyObject, StoreError> {
        let (kind, name) = (object.kind(), object.name().clone());
        if self.find(kind, name.as_str()).await?.is_some() {
            return Err(StoreError::Exists { kind, name: name.to_string() });
        }
        let parts = Parts::of(object)?;
        let revision = advance(self.conn(), REVISION, 1).await?;
        sqlx::query(
            "INSERT INTO objects \
             (kind, name, uid, generation, revision, created_at, labels, annotations, spec, status) \
             VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, NULL)",
        )
        .bind(kind.as_str())
        .bind(name.as_str())
        .bind(uuid::Uuid::new_v4().to_string())
        .bind(crate::row::stored(revision))
        .bind(key(now))
        .bind(parts.labels)
        .bind(parts.annotations)
        .bind(parts.spec)
        .execute(self.conn())
        .await
        .during("create an object")?;
        self.get(kind, name.as_str()).await
    }

    /// Replaces labels, annotations and spec. UID and resource version in the object must still hold where present.
    ///
    /// The generation grows when the spec changed; an update that changes nothing is not written.
    pub async fn update(&mut self, object: &AnyObject) -> Result<AnyObject, StoreError> {
        let (kind, name) = (object.kind(), object.name().clone());
        let stored = self.get(kind, name.as_str()).await?;
        Precondition::of(object).check(&stored)?;
        let (old, new) = (Parts::of(&stored)?, Parts::of(object)?);
        if old == new {
            return Ok(stored);
        }
        let revision = advance(self.conn(), REVISION, 1).await?;
        sqlx::query(
            "UPDATE objects SET generation = generation + $1, revision = $2, labels = $3, annotations = $4, spec = $5 \
             WHERE kind = $6 AND name = $7",
        )
        .bind(i64::from(old.spec != new.spec))
        .bind(crate::row::stored(revision))
        .bind(new.labels)
        .bind(new.annotations)
        .bind(new.spec)
        .bind(kind.as_str())
        .bind(name.as_str())
        .execute(self.conn())
        .await
        .during("update an object")?;
        self.get(kind, name.as_str()).await
    }

    /// Replaces the status alone; the generation stays, the revision grows. A UID in the object must still hold.
    pub async fn set_status(&mut self, object: &AnyObject) -> Result<AnyObject, StoreError> {
        let (kind, name) = (object.kind(), object.name().clone());
        let stored = self.get(kind, name.as_str()).await?;
        let precondition = Precondition { resource_version: None, ..Precondition::of(object) };
        precondition.check(&stored)?;
        let (old, new) = (Parts::of(&stored)?.status, Parts::of(object)?.status);
        if old == new {
            return Ok(stored);
        }
        let revision = advance(self.conn(), REVISION, 1).await?;
        sqlx::query("UPDATE objects SET revision = $1, status = $2 WHERE kind = $3 AND name = $4")
            .bind(crate::row::stored(revision))
            .bind(new)
            .bind(kind.as_str())
            .bind(name.as_str())
            .execute(self.conn())
            .await
            .during("update an object's status")?;
        self.get(kind, name.as_str()).await
    }

    /// Deletes an object and returns what it was.
    pub async fn delete(
        &mut self,
        kind: Kind,
        name: &str,
        precondition: &Precondition,
        now: Timestamp,
    ) -> Result<AnyObject, StoreError> {
        let stored = self.get(kind, name).await?;
        precondition.check(&stored)?;
        let revision = advance(self.conn(), REVISION, 1).await?;
        sqlx::query("DELETE FROM objects WHERE kind = $1 AND name = $2")
            .bind(kind.as_str())
            .bind(name)
            .execute(self.conn())
            .await
            .during("delete an object")?;
        sqlx::query(
            "INSERT INTO object_tombstones (revision, kind, name, uid, deleted_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(crate::row::stored(revision))
        .bind(kind.as_str())
        .bind(name)
        .bind(stored.metadata().uid.clone().unwrap_or_default())
        .bind(key(now))
        .execute(self.conn())
        .await
        .during("note a deleted object")?;
        Ok(stored)
    }
}

/// The parts of an object that are stored as JSON text.
#[derive(PartialEq, Eq)]
struct Parts {
    labels: String,
    annotations: String,
    spec: String,
    status: Option<String>,
}

impl Parts {
    fn of(object: &AnyObject) -> Result<Self, StoreError> {
        let corrupt = StoreError::corrupt("object");
        let mut value = serde_json::to_value(object).map_err(|error| corrupt(error.into()))?;
        let mut take = |field: &str| value.get_mut(field).map(Value::take);
        Ok(Self {
            spec: take("spec").unwrap_or_else(|| json!({})).to_string(),
            status: take("status").map(|status| status.to_string()),
            labels: json_text("object", &object.metadata().labels)?,
            annotations: json_text("object", &object.metadata().annotations)?,
        })
    }
}

fn read(row: &Row) -> Result<AnyObject, StoreError> {
    let columns = Columns::new(row, "object");
    let kind: Kind = columns.word("kind")?;
    let mut body = Map::new();
    body.insert(
        "metadata".to_owned(),
        json!({
            "name": columns.text("name")?,
            "uid": columns.text("uid")?,
            "generation": columns.count("generation")?,
            "resourceVersion": columns.count(REVISION)?.to_string(),
            "creationTimestamp": columns.time("created_at")?,
            "labels": columns.json::<Value>("labels")?,
            "annotations": columns.json::<Value>("annotations")?,
        }),
    );
    body.insert("spec".to_owned(), columns.json("spec")?);
    if let Some(status) = columns.optional_text("status")? {
        let status = serde_json::from_str(&status).map_err(|error| columns.corrupt(error))?;
        body.insert("status".to_owned(), status);
    }
    AnyObject::from_parts(kind, Value::Object(body)).map_err(|error| columns.corrupt(error))
}

fn escaped(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}
