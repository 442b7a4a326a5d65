//! `nullius audit verify --state`: the proof of a state directory, without asking a hub.

use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use nullius_cli::{AuditVerify, Chain, Exit, ResultForm, read_anchors, tell_verdict};
use nullius_hub::HubSettings;
use nullius_model::SystemClock;

use crate::{
    config::Misconfigured,
    sealing::{PassphraseFrom, sealing},
};

/// Verifies the audit of a state directory and tells about it.
pub(crate) async fn verify(args: AuditVerify, form: ResultForm) -> Result<Exit> {
    let failed = |failure: nullius_cli::Failure| anyhow!(failure.lines(Chain::Shown));
    let state = args.state.context("no state directory was named").context(Misconfigured)?;
    let mut settings = HubSettings::new(state);
    let from = PassphraseFrom::of(args.key_passphrase_file, args.key_passphrase_command)?;
    settings.sealing = sealing(from.as_ref())?;
    let key = args.audit_key.map(|key| key.parse()).transpose();
    let key = key.context("`--audit-key` is no public key").context(Misconfigured)?;
    let anchors = args.anchor.as_deref().map(read_anchors).transpose().map_err(failed)?;
    let kept = anchors.as_ref().map(|anchors| anchors.checkpoints.as_slice());
    let clock = Arc::new(SystemClock);
    let mut verdict = nullius_hub::verify_state(&settings, key, kept, clock).await?;
    verdict.anchored = anchors.as_ref().map(|anchors| anchors.count);
    let (text, exit) = tell_verdict(&verdict, form).map_err(failed)?;
    print!("{text}");
    Ok(exit)
}
