//! The serving certificate of this replica: issued by itself for a day, renewed at half of it, and anew when another authority
//! signs. Its key never leaves the process.

use std::{sync::Arc, time::Duration};

use nullius_model::Timestamp;
use nullius_pki::{PrivateKey, ServingAuthority, ServingCertificate};
use nullius_tls::LiveCertificate;
use secrecy::ExposeSecret as _;
use tokio::sync::watch;

use super::authority::{Authority, Believed};
use crate::AgentError;

const LOOK: Duration = Duration::from_secs(60);

/// What the listener shows.
#[derive(Clone)]
pub(crate) struct Serving {
    service: String,
    shown: Arc<LiveCertificate>,
    is_real: watch::Sender<bool>,
}

impl Serving {
    /// Until there is an authority a certificate is shown that nobody believes.
    pub(crate) fn new(service: String) -> Result<Self, AgentError> {
        let nobody = ServingAuthority::create(&service, Timestamp::now())
            .and_then(|authority| authority.issue(&service, Timestamp::now()));
        let ServingCertificate { chain, key, .. } = nobody.map_err(AgentError::Authority)?;
        let shown = LiveCertificate::new(chain, key.to_der())?;
        Ok(Self { service, shown, is_real: watch::Sender::new(false) })
    }

    pub(crate) fn shown(&self) -> Arc<LiveCertificate> {
        Arc::clone(&self.shown)
    }

    pub(crate) fn is_shown(&self) -> bool {
        *self.is_real.borrow()
    }

    /// Keeps it fresh, for as long as the process lives.
    pub(crate) async fn keep(self, mut authority: Authority) {
        let mut standing: Option<(String, Timestamp)> = None;
        loop {
            let believed = authority.borrow_and_update().clone();
            let now = Timestamp::now();
            let is_fresh = match (&standing, &believed) {
                (Some((signer, renew_at)), Some(believed)) => {
                    *signer == believed.current.certificate_pem && now < *renew_at
                }
                _ => false,
            };
            if let Some(believed) = believed.filter(|_| !is_fresh) {
                match self.renew(&believed, now) {
                    Ok(renew_at) => {
                        standing = Some((believed.current.certificate_pem.clone(), renew_at));
                        self.is_real.send_replace(true);
                        tracing::info!(%renew_at, "show a new serving certificate");
                    }
                    Err(error) => {
                        tracing::warn!(error = %error.chain(), "cannot issue a serving certificate, try again");
                    }
                }
            }
            tokio::select! {
                changed = authority.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn renew(&self, believed: &Believed, now: Timestamp) -> Result<Timestamp, AgentError> {
        let current = &believed.current;
        let authority =
            ServingAuthority::from_parts(&current.certificate_pem, current.key.expose_secret());
        let issued = authority.and_then(|authority| authority.issue(&self.service, now));
        let ServingCertificate { chain, key, not_after } = issued.map_err(AgentError::Authority)?;
        self.shown.replace(chain, PrivateKey::to_der(&key))?;
        Ok(now + not_after.duration_since(now) / 2)
    }
}
