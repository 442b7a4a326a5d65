//! Services that stand for one of another cluster, as their annotations say: what it is called there, by which gateways it is reached, and
//! who may be behind it.

use std::{collections::BTreeMap, net::SocketAddr, str::FromStr, sync::Arc};

use nullius_mesh::{
    Exported,
    news::{IMPORT_MAX, Import, ServiceName, is_address},
};
use nullius_model::{SpiffeId, TrustDomain};

/// What follows `nullius.dev/import` in the names of annotations.
const SERVICE: &str = "";
const GATEWAYS: &str = "-gateways";
const GATEWAY_IDS: &str = "-gateway-ids";
const IDS: &str = "-ids";

/// Reads them; none of a Service of this cluster. All IDs are of one other trust domain: its gateway leads to nobody else.
pub(super) fn read(
    annotations: &BTreeMap<Box<str>, Box<str>>,
    own: &TrustDomain,
) -> Result<Option<Import>, String> {
    if annotations.is_empty() {
        return Ok(None);
    }
    if let Some(other) =
        annotations.keys().find(|it| ![SERVICE, GATEWAYS, GATEWAY_IDS, IDS].contains(&&***it))
    {
        return Err(format!("`nullius.dev/import{}` is not known", other.escape_debug()));
    }
    let text = |name: &str| {
        let text = annotations.get(name).map(|it| it.trim()).filter(|it| !it.is_empty());
        text.ok_or_else(|| format!("`nullius.dev/import{name}` is missing, or too long"))
    };
    let service = text(SERVICE)?;
    // Which port is said by the port that is called.
    let service: Exported = format!("{service}:1").parse().map_err(|_| {
        "`nullius.dev/import` is written `NAME.NAMESPACE.svc.clusterset.local`".to_owned()
    })?;
    let gateways: Vec<SocketAddr> = list(GATEWAYS, text(GATEWAYS)?)?;
    if let Some(odd) = gateways.iter().find(|at| at.port() == 0 || !is_address(&at.ip())) {
        return Err(format!("`nullius.dev/import{GATEWAYS}`: nobody is at `{odd}`"));
    }
    let gateway_ids: Vec<SpiffeId> = list(GATEWAY_IDS, text(GATEWAY_IDS)?)?;
    let ids: Vec<SpiffeId> = list(IDS, text(IDS)?)?;
    let domain = gateway_ids.first().map(SpiffeId::trust_domain).unwrap_or_default();
    if domain == own.as_str()
        || gateway_ids.iter().chain(&ids).any(|it| it.trust_domain() != domain)
    {
        return Err("all its SPIFFE IDs are to be of one other trust domain".to_owned());
    }
    let (namespace, name) = (service.namespace().clone(), service.name().into());
    let name = ServiceName { namespace, name };
    Ok(Some(Import { name, gateways, gateway_ids: gateway_ids.into(), ids: ids.into() }))
}

/// One that is reached nowhere.
pub(super) fn nowhere(name: &ServiceName) -> Import {
    let (gateway_ids, ids) = (Arc::default(), Arc::default());
    Import { name: name.clone(), gateways: Vec::new(), gateway_ids, ids }
}

/// Values between commas.
fn list<T: FromStr<Err: std::fmt::Display>>(name: &str, text: &str) -> Result<Vec<T>, String> {
    let all = text.split(',').map(str::trim).filter(|it| !it.is_empty());
    let read: Vec<T> = all
        .map(|it| {
            it.parse().map_err(|error| {
                format!("`nullius.dev/import{name}`: `{}`: {error}", it.escape_debug())
            })
        })
        .collect::<Result<_, _>>()?;
    match read.len() {
        1..=IMPORT_MAX => Ok(read),
        count => Err(format!(
            "`nullius.dev/import{name}` has {count} values: write 1 to {IMPORT_MAX}, with commas between"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test")]
    use super::*;

    const GOOD: [(&str, &str); 4] = [
        (SERVICE, "ledger.bank.svc.clusterset.local"),
        (GATEWAYS, "192.0.2.10:15443, [2001:db8::1]:15443"),
        (GATEWAY_IDS, "spiffe://bank.example/ns/nullius-system/sa/nullius-gateway"),
        (IDS, "spiffe://bank.example/ns/bank/sa/ledger,spiffe://bank.example/ns/bank/sa/old"),
    ];

    fn with(change: &[(&str, &str)]) -> Result<Option<Import>, String> {
        let all = GOOD.iter().chain(change).map(|(name, value)| ((*name).into(), (*value).into()));
        read(&all.collect(), &"shop.example".parse().unwrap())
    }

    #[test]
    fn a_service_stands_for_one_of_another_cluster_when_it_says_everything() {
        let import = with(&[]).unwrap().unwrap();
        assert_eq!(import.name.to_string(), "bank/ledger");
        let counts = (import.gateways.len(), import.gateway_ids.len(), import.ids.len());
        assert_eq!(counts, (2, 1, 2));
        let via = import.port(8443).unwrap();
        assert_eq!(via.service.to_string(), "ledger.bank.svc.clusterset.local:8443");
        assert_eq!(read(&BTreeMap::new(), &"shop.example".parse().unwrap()), Ok(None));
    }

    #[test]
    fn what_is_half_said_or_leads_elsewhere_is_refused() {
        let many = vec!["192.0.2.10:15443"; IMPORT_MAX + 1].join(",");
        for (name, value, words) in [
            (SERVICE, "ledger.bank", "is written `NAME.NAMESPACE"),
            (SERVICE, "ledger.bank.svc.clusterset.local:80", "is written `NAME.NAMESPACE"),
            (SERVICE, "10.0.0.7", "is written `NAME.NAMESPACE"),
            (SERVICE, "", "is missing"),
            (GATEWAYS, " ", "is missing"),
            (GATEWAYS, ",", "has 0 values"),
            (GATEWAYS, &many, "has 17 values"),
            (GATEWAYS, "gateway.bank.example:15443", "`gateway.bank.example:15443`"),
            (GATEWAYS, "127.0.0.1:15443", "nobody is at `127.0.0.1:15443`"),
            (GATEWAYS, "192.0.2.10:0", "nobody is at"),
            (IDS, "ledger", "`ledger`"),
            (IDS, "spiffe://other.example/ns/bank/sa/ledger", "one other trust domain"),
            (GATEWAY_IDS, "spiffe://shop.example/ns/a/sa/b", "one other trust domain"),
            ("-cluster", "bank", "`nullius.dev/import-cluster` is not known"),
        ] {
            let told = with(&[(name, value)]).unwrap_err();
            assert!(told.contains(words), "{name} {value}: {told}");
        }
        let own = [
            (GATEWAY_IDS, "spiffe://shop.example/ns/nullius-system/sa/nullius-gateway"),
            (IDS, "spiffe://shop.example/ns/shop/sa/orders"),
        ];
        assert!(with(&own).unwrap_err().contains("one other trust domain"));
    }
}
