//! What callers ask, read before anything is done for it.

use nullius_model::{ParseSpiffeError, SpiffeId};
use nullius_pki::workload::JWT_SVID_MAX;
use nullius_proto::{
    decode,
    envoy::service::discovery::v3::DiscoveryRequest,
    spiffe::{JwtsvidRequest, ValidateJwtsvidRequest},
};

/// Whom one JWT-SVID may be for, and how long their names are.
const AUDIENCES_MAX: usize = 16;
const AUDIENCE_MAX: usize = 255;
/// Secrets that one stream of Envoy may name, and how long a name is.
const NAMES_MAX: usize = 128;
const NAME_MAX: usize = 2048;
/// The kind of resource that Envoy may ask for here.
pub(crate) const SECRET_TYPE: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// A request that is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No audience.
    #[error("say whom the JWT-SVID is for: `audience` is missing")]
    NoAudience,
    /// Too many, empty or too long.
    #[error("name 16 audiences at most, none of them empty or longer than 255 bytes")]
    Audience,
    /// No ID.
    #[error(transparent)]
    Id(#[from] ParseSpiffeError),
    /// No token, or a longer one than anybody issues.
    #[error("`svid` is missing or longer than 16 KiB")]
    Token,
    /// Another kind of resource.
    #[error("only secrets are served here, type URL `{SECRET_TYPE}`")]
    Kind,
    /// Too many secrets, or names that are too long.
    #[error("name 128 secrets at most, none of them empty or longer than 2048 bytes")]
    Names,
}

/// A JWT-SVID that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtAsk {
    /// Whom it is for, sorted, each once.
    pub audience: Vec<String>,
    /// For which identity; for all where there is none.
    pub id: Option<SpiffeId>,
}

/// A JWT-SVID that is to be verified.
#[derive(Clone, PartialEq, Eq)]
pub struct ValidateAsk {
    /// Whom it must be for.
    pub audience: String,
    /// The token.
    pub token: String,
}

/// Secrets that Envoy asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsAsk {
    /// Their names, sorted, each once; all where there is none.
    pub names: Vec<String>,
    /// The version and nonce of the answer that this acknowledges, or refuses.
    pub answer: Option<String>,
    /// Why Envoy refuses it.
    pub refusal: Option<String>,
}

impl JwtAsk {
    /// Reads a request.
    pub(crate) fn read(request: JwtsvidRequest) -> Result<Self, AskError> {
        let mut audience = request.audience;
        if audience.is_empty() {
            return Err(AskError::NoAudience);
        }
        if audience.len() > AUDIENCES_MAX || !audience.iter().all(|name| is_audience(name)) {
            return Err(AskError::Audience);
        }
        audience.sort();
        audience.dedup();
        let id = match request.spiffe_id.as_str() {
            "" => None,
            id => Some(id.parse()?),
        };
        Ok(Self { audience, id })
    }

    /// Reads the bytes of a request.
    pub fn read_bytes(bytes: &[u8]) -> Option<Result<Self, AskError>> {
        decode(bytes).map(Self::read)
    }
}

impl ValidateAsk {
    /// Reads a request.
    pub(crate) fn read(request: ValidateJwtsvidRequest) -> Result<Self, AskError> {
        if request.audience.is_empty() {
            return Err(AskError::NoAudience);
        }
        if !is_audience(&request.audience) {
            return Err(AskError::Audience);
        }
        match request.svid.is_empty() || request.svid.len() > JWT_SVID_MAX {
            true => Err(AskError::Token),
            false => Ok(Self { audience: request.audience, token: request.svid }),
        }
    }

    /// Reads the bytes of a request.
    pub fn read_bytes(bytes: &[u8]) -> Option<Result<Self, AskError>> {
        decode(bytes).map(Self::read)
    }
}

impl SecretsAsk {
    /// Reads a request.
    pub(crate) fn read(request: DiscoveryRequest) -> Result<Self, AskError> {
        if request.type_url != SECRET_TYPE {
            return Err(AskError::Kind);
        }
        let mut names = request.resource_names;
        let odd = |name: &String| name.is_empty() || name.len() > NAME_MAX;
        if names.len() > NAMES_MAX || names.iter().any(odd) {
            return Err(AskError::Names);
        }
        names.sort();
        names.dedup();
        let answer = Some(request.response_nonce).filter(|nonce| !nonce.is_empty());
        let refusal = request
            .error_detail
            .map(|status| status.message.chars().take(300).flat_map(char::escape_debug).collect());
        Ok(Self { names, answer, refusal })
    }

    /// Reads the bytes of a request.
    pub fn read_bytes(bytes: &[u8]) -> Option<Result<Self, AskError>> {
        decode(bytes).map(Self::read)
    }
}

fn is_audience(name: &str) -> bool {
    !name.is_empty() && name.len() <= AUDIENCE_MAX && !name.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    fn jwt(audience: &[&str], id: &str) -> Result<JwtAsk, AskError> {
        let audience = audience.iter().map(|name| (*name).to_owned()).collect();
        JwtAsk::read(JwtsvidRequest { audience, spiffe_id: id.to_owned() })
    }

    #[test]
    fn a_token_is_for_somebody() {
        let ask = jwt(&["b", "a", "b"], "spiffe://d/a").unwrap();
        assert_eq!(ask.audience, ["a", "b"]);
        assert_eq!(ask.id, Some("spiffe://d/a".parse().unwrap()));
        assert_eq!(jwt(&["a"], "").unwrap().id, None);
        assert_eq!(jwt(&[], ""), Err(AskError::NoAudience));
        for bad in [vec![""], vec!["a\n"], vec!["a"; 17], vec!["x".repeat(256).leak() as &str]] {
            assert_eq!(jwt(&bad, ""), Err(AskError::Audience), "{bad:?}");
        }
    }

    #[test]
    fn a_trust_domain_in_upper_case_is_refused() {
        for id in ["spiffe://D/a", "SPIFFE://d/a", "spiffe://d", "d/a"] {
            assert!(matches!(jwt(&["a"], id), Err(AskError::Id(_))), "{id}");
        }
    }

    #[test]
    fn envoy_is_given_secrets_alone() {
        let ask = |kind: &str, names: Vec<String>| {
            SecretsAsk::read(DiscoveryRequest {
                type_url: kind.to_owned(),
                resource_names: names,
                ..DiscoveryRequest::default()
            })
        };
        assert!(ask(SECRET_TYPE, vec!["default".to_owned()]).is_ok());
        assert_eq!(ask("", Vec::new()), Err(AskError::Kind));
        assert_eq!(ask(SECRET_TYPE, vec![String::new()]), Err(AskError::Names));
        let many = (0..129).map(|number| number.to_string()).collect();
        assert_eq!(ask(SECRET_TYPE, many), Err(AskError::Names));
    }
}
