//! Which service account stands for a service of Consul.

use std::collections::BTreeMap;

use nullius_fields::shown;
use nullius_model::Namespace;

use crate::destination::is_subdomain;

/// The namespace that everything is in where Consul has no others.
pub(super) const DEFAULT: &str = "default";

/// A service: its namespace in Consul, and its name.
pub(super) type Service = (String, String);

/// A service account: its namespace, and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Account {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Which service accounts stand for the services of Consul.
#[derive(Debug, Clone, Default)]
pub struct Services {
    /// Namespaces of the cluster by those of Consul: their accounts are its services, by the same name.
    namespaces: BTreeMap<String, String>,
    /// Services that are other accounts.
    accounts: BTreeMap<Service, Account>,
}

impl Services {
    /// Namespaces as `[CONSUL=]NAMESPACE`, services as `[CONSUL/]NAME=NAMESPACE/ACCOUNT`.
    ///
    /// # Errors
    ///
    /// Text that is neither, and one namespace or account that would stand for two.
    pub fn new(namespaces: &[String], services: &[String]) -> Result<Self, String> {
        let mut all = Self::default();
        for text in namespaces {
            let (consul, namespace) = text.split_once('=').unwrap_or((DEFAULT, text));
            let namespace = read_namespace(namespace)?;
            if all.namespaces.values().any(|other| *other == namespace) {
                return Err(format!(
                    "the namespace `{namespace}` would stand for two namespaces of Consul"
                ));
            }
            if all.namespaces.insert(consul.to_owned(), namespace).is_some() {
                return Err(format!("the namespace {} of Consul is said twice", shown(consul)));
            }
        }
        for text in services {
            let wrong =
                || format!("{} is not of the form `[CONSUL/]NAME=NAMESPACE/ACCOUNT`", shown(text));
            let (service, account) = text.split_once('=').ok_or_else(wrong)?;
            let (consul, name) = service.split_once('/').unwrap_or((DEFAULT, service));
            let (namespace, account) = account.split_once('/').ok_or_else(wrong)?;
            if name.is_empty() || !is_subdomain(account) {
                return Err(wrong());
            }
            let namespace = read_namespace(namespace)?;
            let of_other = |(other, known): (&String, &String)| {
                *known == namespace && other.as_str() != consul
            };
            if all.namespaces.iter().any(of_other) {
                return Err(format!(
                    "`{namespace}` stands for another namespace of Consul than that of {}",
                    shown(service)
                ));
            }
            let account = Account { namespace, name: account.to_owned() };
            if all.accounts.values().any(|other| *other == account) {
                return Err(format!(
                    "`{}/{}` would stand for two services",
                    account.namespace, account.name
                ));
            }
            if all.accounts.insert((consul.to_owned(), name.to_owned()), account).is_some() {
                return Err(format!("the service {} is said twice", shown(service)));
            }
        }
        Ok(all)
    }

    /// The account of a service.
    pub(super) fn account(&self, (consul, name): &Service) -> Result<Account, String> {
        if let Some(account) = self.accounts.get(&(consul.clone(), name.clone())) {
            return Ok(account.clone());
        }
        let said = match consul.as_str() {
            DEFAULT => name.clone(),
            _ => format!("{consul}/{name}"),
        };
        let hint = format!("say which account it is by `--service {said}=NAMESPACE/ACCOUNT`");
        let Some(namespace) = self.namespaces.get(consul) else {
            return Err(format!("nothing says what the service {} is: {hint}", shown(&said)));
        };
        if !is_subdomain(name) {
            return Err(format!("no service account is called {}: {hint}", shown(name)));
        }
        let account = Account { namespace: namespace.clone(), name: name.clone() };
        // Another service is what would be this one's account.
        match self.accounts.values().any(|other| *other == account) {
            true => Err(format!("`{namespace}/{name}` stands for another service: {hint}")),
            false => Ok(account),
        }
    }

    /// The namespace whose accounts are the services of one of Consul's.
    pub(super) fn namespace(&self, consul: &str) -> Result<&str, String> {
        self.namespaces.get(consul).map(String::as_str).ok_or_else(|| {
            let said = match consul {
                DEFAULT => "NAMESPACE".to_owned(),
                _ => format!("{consul}=NAMESPACE"),
            };
            format!(
                "nothing says which namespace all services are in: say it by `--namespace {said}`"
            )
        })
    }

    /// Services of a namespace of Consul that are elsewhere than the others.
    pub(super) fn outside(&self, consul: &str) -> BTreeMap<&Service, &Account> {
        let home = self.namespaces.get(consul);
        let is_outside = |(service, account): &(&Service, &Account)| {
            service.0 == consul && Some(&account.namespace) != home
        };
        self.accounts.iter().filter(is_outside).collect()
    }
}

fn read_namespace(text: &str) -> Result<String, String> {
    text.parse::<Namespace>().map(|it| it.to_string()).map_err(|error| error.to_string())
}
