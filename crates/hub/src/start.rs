//! Starting: the store is opened, keys are made or opened, and an empty store gets its first admin.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use arc_swap::ArcSwap;
use nullius_access::{
    HubAction, HubProcess, HubTask, Snapshot,
    session::{ClientMark, Phase, SessionState},
};
use nullius_api::EnrolmentLink;
use nullius_model::{
    AnyObject, AuditEvent, AuditKind, AuditOutcome, Clock, GrantSpec, GrantSubject, HubRole,
    InfraId, Kind, Object, ObjectMeta, ParseNameError, Principal, UserName, UserSpec,
};
use nullius_pki::{CertificateError, HUB_CERTIFICATE_TTL, OfflineKeyFile, PrivateKey, RootError};
use nullius_policy::{Denial, decide_hub_process};
use nullius_store::{
    AuditOptions, FileSink, OpenError, SessionRecord, SignError, StartError, Store, StoreError,
    StoreUrl,
};
use nullius_tls::{LiveCertificate, TlsError};
use rustls_pki_types::ServerName;
use tokio::sync::{Mutex, Notify};

use crate::{
    Client, Hub, HubMetrics, HubSettings, Keys, LiveSession, LiveSessions, OpenKeysError,
    SettingsError, UsageRecorder,
    clusters::Clusters,
    keys,
    limits::{Budgets, HashRoom, SourceLimit},
    memory::Memory,
};

const FIRST_ADMIN: &str = "admin";
const FIRST_GRANT: &str = "first-admin";
/// Refusals to strangers that are written down at once, and per minute on average, of each kind.
const STRANGERS_AT_ONCE: u32 = 2_000;
const STRANGERS_PER_MINUTE: u32 = 60;
/// The name of this hub in the audit chain.
const WRITER: &str = "hub";

/// A hub that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The state directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The keys cannot be made or opened.
    #[error(transparent)]
    Keys(#[from] OpenKeysError),
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The audit cannot be started.
    #[error(transparent)]
    Audit(#[from] StartError),
    /// The certificate cannot be made.
    #[error("the hub's certificate cannot be made")]
    Certificate(#[from] CertificateFault),
    /// What the hub makes at first is refused; a defect.
    #[error("the first objects were refused: {0}")]
    Refused(#[from] Denial),
    /// A name of the first objects is none; a defect.
    #[error(transparent)]
    Name(#[from] ParseNameError),
}

/// A certificate that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateFault {
    /// The root refuses.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The key cannot be made.
    #[error(transparent)]
    Key(#[from] CertificateError),
    /// TLS refuses it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A name that cannot stand in it.
    #[error("`{0}` cannot stand in a certificate")]
    Name(String),
}

/// What a first start tells the operator, once.
#[derive(Clone)]
pub struct FirstAdmin {
    /// The link by which the first admin sets password and second factor.
    pub link: EnrolmentLink,
    /// The first admin's name.
    pub user: UserName,
    /// Infrastructure root in PEM, to be pinned by those who sign in.
    pub root: String,
}

/// Whether a first admin who has not enrolled gets a new link, which ends the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relink {
    /// They do.
    Again,
    /// The link that was given stays the one.
    Never,
}

/// Makes a state directory ready: keys, first admin, and the one-time link for them. Done again before the first
/// admin enrolled, it makes a new link; afterwards it gives none.
pub async fn init(
    settings: HubSettings,
    clock: Arc<dyn Clock>,
) -> Result<Option<FirstAdmin>, InitError> {
    make(settings, None, clock).await
}

/// The same with the offline key in a file that is kept elsewhere: made with the hub, or used where it is there.
pub async fn init_with_offline_key(
    settings: HubSettings,
    file: &OfflineKeyFile,
    clock: Arc<dyn Clock>,
) -> Result<Option<FirstAdmin>, InitError> {
    make(settings, Some(file), clock).await
}

async fn make(
    settings: HubSettings,
    offline: Option<&OfflineKeyFile>,
    clock: Arc<dyn Clock>,
) -> Result<Option<FirstAdmin>, InitError> {
    let bound = settings.listen;
    let hub = open(settings, offline, clock, bound).await?;
    let first = hub.first_admin(Relink::Again).await?;
    hub.audit.shutdown().await;
    hub.store.close().await;
    Ok(first)
}

/// Builds the hub that will be reached at `bound`.
pub(crate) async fn open(
    settings: HubSettings,
    offline: Option<&OfflineKeyFile>,
    clock: Arc<dyn Clock>,
    bound: SocketAddr,
) -> Result<Arc<Hub>, InitError> {
    settings.check()?;
    let url = StoreUrl::Directory(settings.state_dir.clone());
    let store = Store::open(&url, Arc::clone(&clock)).await?;
    let (keys, sealer) = keys::open_or_make(&store, offline, &settings, clock.now()).await?;

    let signer = keys.audit();
    let mut audit = AuditOptions::new(
        WRITER.parse().map_err(|_| StoreError::Busy)?,
        Arc::new(move |bytes: &[u8]| Ok::<_, SignError>(signer.sign(bytes))),
    );
    let mut file = FileSink::in_directory(settings.state_dir.join("audit"));
    file.form = settings.audit.file_form;
    audit.file = Some(file);
    audit.anchor.clone_from(&settings.audit.anchor);
    audit.reserve = Some(settings.state_dir.join("audit-reserve"));
    let audit = store.start_audit(audit).await?;

    let (revision, objects) = store.read().await?.objects().load_all().await?;
    let snapshot = ArcSwap::from_pointee(Snapshot::compile(&objects, revision));
    let certificate = hub_certificate(&keys, &settings, clock.as_ref())?;
    let limits = settings.limits;
    let hub = Hub {
        origin: settings.origin(bound),
        address: settings.address(bound),
        sources: SourceLimit::new(limits.burst, limits.per_second),
        readers: SourceLimit::new(limits.burst, limits.per_second),
        strangers: Budgets::new(STRANGERS_AT_ONCE, STRANGERS_PER_MINUTE),
        hash_room: HashRoom::new(limits.password_checks, limits.password_queue),
        settings,
        clock,
        store,
        snapshot,
        sessions: LiveSessions::default(),
        keys,
        sealer,
        certificate,
        audit,
        usage: UsageRecorder::default(),
        clusters: Clusters::new(),
        metrics: HubMetrics::default(),
        memory: Memory::default(),
        changing: Mutex::new(()),
        foreign_anew: AtomicU64::new(0),
        time_changed: Notify::new(),
        draining: AtomicBool::new(false),
    };
    hub.take_in_key_change().await;
    hub.care_for_keys().await;
    hub.load_sessions().await?;
    hub.load_attempts().await?;
    hub.load_repairs();
    Ok(Arc::new(hub))
}

/// A new certificate of the infrastructure root for this process.
pub(crate) fn hub_certificate(
    keys: &Keys,
    settings: &HubSettings,
    clock: &dyn Clock,
) -> Result<Arc<LiveCertificate>, CertificateFault> {
    let (certificate, key) = issue(keys, settings, clock)?;
    Ok(LiveCertificate::of(&certificate, &key)?)
}

fn issue(
    keys: &Keys,
    settings: &HubSettings,
    clock: &dyn Clock,
) -> Result<(nullius_pki::IssuedCertificate, PrivateKey), CertificateFault> {
    let names = settings.certificate_names();
    let names = names.iter().map(|name| {
        ServerName::try_from(name.as_str()).map_err(|_| CertificateFault::Name(name.clone()))
    });
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKey::generate()?;
    let id = InfraId::Hub { instance: keys.instance().clone() };
    let now = clock.now();
    let issued = keys.root().issue_hub(&key.request()?, &id, &names, HUB_CERTIFICATE_TTL, now)?;
    Ok((issued, key))
}

impl Hub {
    /// Shows a new certificate from now on.
    pub(crate) fn renew_certificate(&self) -> Result<(), CertificateFault> {
        let (certificate, key) = issue(&self.keys, &self.settings, self.clock.as_ref())?;
        Ok(self.certificate.renew(&certificate, &key)?)
    }

    /// Takes up the sessions that lived when the hub stopped.
    async fn load_sessions(&self) -> Result<(), StoreError> {
        let now = self.now();
        for stored in self.store.read().await?.sessions().live(now).await? {
            let SessionRecord { id, user, proof, user_agent, client_mark, .. } = stored;
            let state = SessionState {
                phase: Phase::Live,
                proof,
                signed_in_at: stored.signed_in_at,
                expires_at: stored.expires_at,
                refreshed_at: stored.refreshed_at,
                used_at: None,
                generation: stored.generation,
                // Without one nobody can refresh it: it ends with its last token.
                client: ClientMark(client_mark.unwrap_or_default()),
            };
            let client = Client::of_word(&user_agent);
            self.sessions.insert(LiveSession::new(id, user, client, state));
        }
        Ok(())
    }

    /// Makes the first admin where there are no people, with a link for them.
    pub(crate) async fn first_admin(
        &self,
        relink: Relink,
    ) -> Result<Option<FirstAdmin>, InitError> {
        let user: UserName = FIRST_ADMIN.parse()?;
        let now = self.now();
        let mut reader = self.store.read().await?;
        let people = reader.objects().list(Kind::User).await?;
        let first_grant = reader.objects().find(Kind::Grant, FIRST_GRANT).await?;
        let enrolled = reader.credentials().find(&user).await?.is_some();
        drop(reader);
        let known = people.iter().any(|person| person.name().as_str() == FIRST_ADMIN);
        let waits = known && first_grant.is_some() && relink == Relink::Again;
        if enrolled || !(people.is_empty() || waits) {
            return Ok(None);
        }
        let process = HubProcess::doing(HubTask::FirstStart);
        let mut tx = self.store.begin().await?;
        if people.is_empty() {
            let person =
                UserSpec { display_name: Some("First admin".to_owned()), ..UserSpec::default() };
            let person = Object { metadata: named(FIRST_ADMIN)?, spec: person, status: None };
            let grant = GrantSpec {
                subjects: [GrantSubject::User(user.clone())].into(),
                hub_role: Some(HubRole::Admin),
                reason: Some("made at first start; replace it with a grant to a group".to_owned()),
                ..GrantSpec::default()
            };
            let grant = Object { metadata: named(FIRST_GRANT)?, spec: grant, status: None };
            for object in [AnyObject::User(person), AnyObject::Grant(grant)] {
                let action = HubAction::Create { object: &object };
                decide_hub_process(&process, &action).into_result()?;
                let stored = tx.objects().create(&object, now).await?;
                let mut event = self.first_event(AuditKind::ObjectChange);
                event.target = Some(format!("{}/{}", stored.kind(), stored.name()));
                event.facts.insert("verb".to_owned(), "create".to_owned());
                tx.audit(&event)?;
            }
        }
        decide_hub_process(&process, &HubAction::IssueEnrolment { user: &user }).into_result()?;
        let link = self.create_enrolment(&mut tx, &user).await?;
        let mut event = self.first_event(AuditKind::Enrol);
        event.outcome = AuditOutcome::Begun;
        event.target = Some(format!("User/{user}"));
        tx.audit(&event)?;
        tx.commit().await?;
        self.reload().await?;
        let root = self.keys.root().certificate_pem().to_owned();
        Ok(Some(FirstAdmin { link, user, root }))
    }

    fn first_event(&self, kind: AuditKind) -> AuditEvent {
        let mut event = self.own_event(kind, AuditOutcome::Done);
        event.principal = Principal::Hub;
        event.facts.insert("task".to_owned(), "first-start".to_owned());
        event
    }
}

fn named(name: &str) -> Result<ObjectMeta, ParseNameError> {
    Ok(ObjectMeta::named(name.parse()?))
}
