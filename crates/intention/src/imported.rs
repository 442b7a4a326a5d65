//! What an import makes of another mesh's policies: intentions, and remarks on what was not carried over.

use nullius_fields::Fault;
use nullius_model::{API_VERSION, IntentionSpec};
use serde_json::{Value as Json, json};

use crate::{
    intention::Intention,
    origin::{Home, Origin},
};

/// What came of an import.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imported {
    /// What was carried over.
    pub intentions: Vec<ImportedIntention>,
    /// What was not, and why.
    pub refused: Vec<Remark>,
    /// What is other than it was, to the safe side.
    pub notes: Vec<Remark>,
}

/// An intention to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedIntention {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it says.
    pub spec: IntentionSpec,
    /// The objects that it comes from.
    pub objects: Vec<usize>,
}

/// Something to be told of one of the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Which of the objects.
    pub object: usize,
    /// The field, and what is to be told.
    pub fault: Fault,
}

impl Imported {
    /// Notes what of an object was not carried over.
    pub(crate) fn refuse(&mut self, object: usize, faults: Vec<Fault>) {
        self.refused.extend(faults.into_iter().map(|fault| Remark { object, fault }));
    }

    /// What is written must be taken: a path that no request could have, a name that is none.
    pub(crate) fn leave_out_unreadable(&mut self, home: &Home) {
        let mut wrong = Vec::new();
        self.intentions.retain(|intention| {
            let Err(faults) = intention.check(home) else { return true };
            let object = intention.objects.first().copied().unwrap_or_default();
            wrong.extend(faults.into_iter().map(|fault| Remark { object, fault }));
            false
        });
        self.refused.append(&mut wrong);
    }
}

impl ImportedIntention {
    /// The object.
    pub fn to_json(&self) -> Json {
        json!({
            "apiVersion": API_VERSION,
            "kind": "Intention",
            "metadata": { "name": self.name, "namespace": self.namespace },
            "spec": self.spec,
        })
    }

    /// Whether the strict reader takes it; what it says where it does not.
    pub(crate) fn check(&self, home: &Home) -> Result<(), Vec<Fault>> {
        let read = Intention::read(&self.to_json(), Origin::Cluster, home);
        let told = |fault: Fault| Fault {
            field: "spec".to_owned(),
            message: format!("no intention can say it: {fault}"),
        };
        read.map(drop).map_err(|faults| faults.into_iter().map(told).collect())
    }
}
