//! Kubernetes' Pod Security Standards: every check, level and version, with Kubernetes' own messages.
//!
//! [`Pod`] reads a pod (or the template of a workload, [`PodTemplate`]) as the API server decodes and defaults it,
//! [`evaluate`] judges it by a [`LevelVersion`], and [`review`] judges a request as the API server's admission does:
//! by the labels of the namespace ([`Modes`]), with exemptions, updates and subresources. [`keep`] does the same in
//! namespaces whose label was lowered for the sake of exceptions.

mod accepted;
mod checks;
mod evaluation;
mod kept;
mod labels;
mod level;
mod pod;
mod registry;
mod request;
mod template;

use crate::go_text;

pub use accepted::{Excepted, except};
pub use evaluation::{Evaluation, Spot, Violation, evaluate, evaluate_as};
pub use kept::{Kept, Relabel, conditions, is_known, is_lowered, keep, kept_level, owner_level};
pub use labels::{ENFORCE_LABEL, LabelFault, Modes};
pub use level::{Level, LevelVersion, ParseLevelError, Version};
pub use pod::{DecodeError, Pod};
pub use registry::{Check, CheckId, all_checks};
pub use request::{
    Exemption, ExistingPod, NamespaceReview, Operation, PodRequest, Refusal, Review, Settings,
    review, review_namespace, warnings_for_existing,
};
pub use template::{PodTemplate, Workload};
