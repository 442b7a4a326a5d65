//! What the plugin is told about a pod that is about to begin.

use std::{sync::Arc, time::Duration};

use nullius_mesh::news::Mode;
use tokio::sync::watch;

use super::{KnownView, pods::Led};
use crate::cni::{Attachment, Desk, Verdict};

/// How long a pod waits for its traffic to be led before it is told to come again.
const PATIENCE: Duration = Duration::from_secs(20);

/// Decides by what is known of the mesh and which pods are led.
pub(crate) struct FrontDesk {
    node: String,
    known: KnownView,
    led: watch::Receiver<Led>,
}

impl FrontDesk {
    pub(crate) fn new(node: String, known: KnownView, led: watch::Receiver<Led>) -> Self {
        Self { node, known, led }
    }

    /// What is so now; the error says what it waits for.
    fn look(&self, attachment: &Attachment) -> Result<(), &'static str> {
        let known = self.known.borrow();
        let Some(known) = known.as_ref() else {
            return Err("the node does not know yet which pods are in the mesh");
        };
        let uid = attachment.pod.uid.as_str();
        let Some(pod) = known.picture.workloads().get(uid) else {
            return Err("`agent identity` has not told the node of this pod yet");
        };
        match pod.mode {
            Mode::None => Ok(()),
            _ if *pod.node != *self.node => Err("the pod belongs to another node"),
            // Also where its own proxy takes it: that begins when nothing can pass beside it.
            Mode::Node | Mode::Sidecar => match self.led.borrow().get(uid) {
                Some(network) if *network == attachment.network.id() => Ok(()),
                Some(_) | None => Err("the pod's traffic is not led yet: the node's log says why"),
            },
        }
    }
}

impl Desk for FrontDesk {
    async fn decide(&self, attachment: Arc<Attachment>) -> Verdict {
        let (mut known, mut led) = (self.known.clone(), self.led.clone());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            known.mark_unchanged();
            led.mark_unchanged();
            let waits_for = match self.look(&attachment) {
                Ok(()) => return Verdict::Begin,
                Err(waits_for) => waits_for,
            };
            let changed = async {
                tokio::select! {
                    changed = known.changed() => changed,
                    changed = led.changed() => changed,
                }
            };
            match tokio::time::timeout_at(deadline, changed).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Verdict::Later(waits_for.to_owned()),
            }
        }
    }

    fn is_ready(&self) -> Result<(), &'static str> {
        match self.known.borrow().is_some() {
            true => Ok(()),
            false => Err("the node does not know yet which pods are in the mesh"),
        }
    }
}
