//! First contact with a hub: which root is pinned, and who vouched for it.
//!
//! A file, a fingerprint that came another way, or a person who looked at the fingerprint on a terminal. Until then
//! the hub is asked one thing only, its root, over a connection that is believed nothing.

use std::{fs, path::Path};

use nullius_api::{HubInfo, route};
use nullius_tls::InfraRoots;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use url::Url;

use crate::{
    client::{
        call::{self, Call},
        dial::{Dialer, Trust},
    },
    environment::{Confirmed, Environment},
    failure::{Exit, Failure, file_failure},
};

/// SHA-256 of a root's DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Reads `sha256:HEX`, also with colons between the bytes.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text).replace(':', "");
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes)
            .map_err(|_| "write `sha256:` and 64 hexadecimal digits".to_owned())?;
        Ok(Self(bytes))
    }

    /// Of the one root in PEM.
    pub fn of_pem(pem: &str) -> Result<Self, Failure> {
        let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        match roots.as_deref() {
            Ok([root]) => Ok(Self(Sha256::digest(root).into())),
            Ok(_) | Err(_) => Err(Failure::new("the hub's root cannot be read")
                .why("its answer does not hold exactly one certificate")
                .next("see whether a Nullius hub listens at this address")),
        }
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

/// Who vouches for the root.
pub(crate) enum Voucher<'a> {
    /// A file with the root.
    File(&'a Path),
    /// A fingerprint that came another way.
    Fingerprint(Fingerprint),
    /// The person at the terminal.
    Person,
}

/// The root to pin, in PEM.
pub(crate) async fn root_to_pin(
    hub: &Url,
    voucher: Voucher<'_>,
    environment: &mut Environment,
) -> Result<String, Failure> {
    match voucher {
        Voucher::File(path) => {
            let pem =
                fs::read_to_string(path).map_err(|error| file_failure("read", path, error))?;
            InfraRoots::from_pem(&pem).map_err(|error| {
                Failure::usage(format!("`{}` holds no root that can be pinned", path.display()))
                    .because(error)
                    .next("use the file that the hub's operator gave you")
            })?;
            Ok(pem)
        }
        Voucher::Fingerprint(wanted) => {
            let (pem, found) = claimed_root(hub).await?;
            if found != wanted {
                return Err(Failure::new(format!("`{hub}` is not the hub that was meant"))
                    .why(format!("its root is `{found}`, the fingerprint given is `{wanted}`"))
                    .next("do not go on; ask the hub's operator which fingerprint is right")
                    .exit_with(Exit::Denied));
            }
            Ok(pem)
        }
        Voucher::Person => {
            if !environment.answers.can_ask() {
                return Err(Failure::usage(format!("the hub `{hub}` is not known here"))
                    .why("nothing vouches for its root, and no terminal is here to ask")
                    .next("give `--ca FILE` or `--ca-fingerprint sha256:…`"));
            }
            let (pem, found) = claimed_root(hub).await?;
            environment.terminal.tell(&format!(
                "The hub {hub} is not known on this machine. It says that its root is\n\n    {found}\n\n\
                 Compare this with what the hub's operator told you, not with what came from the hub itself.\n"
            ));
            match environment.answers.confirm("Pin this root?").await? {
                Confirmed::Yes => Ok(pem),
                Confirmed::No => Err(Failure::new("the root was not pinned").next(
                    "ask the hub's operator for the fingerprint, or for the file for `--ca`",
                )),
            }
        }
    }
}

/// What somebody at the hub's address says the root is.
async fn claimed_root(hub: &Url) -> Result<(String, Fingerprint), Failure> {
    let dialer = Dialer::new(hub.clone(), Trust::Unverified);
    let call = Call::get(format!("cannot ask `{hub}` for its root"), route::HUB);
    let info: HubInfo = call::send(&dialer, &call, None).await?.read(&call.what)?;
    let fingerprint = Fingerprint::of_pem(&info.ca)?;
    InfraRoots::from_pem(&info.ca).map_err(|error| {
        Failure::new(format!("`{hub}` offers no root that can be pinned"))
            .because(error)
            .next("ask the hub's operator for the file for `--ca`")
    })?;
    Ok((info.ca, fingerprint))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    #[test]
    fn fingerprints_read_in_the_forms_that_people_paste() {
        let hex = "ab".repeat(32);
        let plain = Fingerprint::parse(&hex).unwrap();
        assert_eq!(Fingerprint::parse(&format!("sha256:{hex}")).unwrap(), plain);
        assert_eq!(Fingerprint::parse(&["AB"; 32].join(":")).unwrap(), plain);
        assert_eq!(plain.to_string(), format!("sha256:{hex}"));
        assert!(Fingerprint::parse("sha256:abcd").is_err());
    }
}
