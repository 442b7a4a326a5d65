-- Times are whole nanoseconds since 1970 (UTC); yes and no are 1 and 0; hashes and JSON are text.

CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE objects (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL UNIQUE,
    generation BIGINT NOT NULL,
    revision BIGINT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    labels TEXT NOT NULL,
    annotations TEXT NOT NULL,
    spec TEXT NOT NULL,
    status TEXT,
    PRIMARY KEY (kind, name)
);

CREATE TABLE object_tombstones (
    revision BIGINT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    deleted_at BIGINT NOT NULL
);

CREATE TABLE user_credentials (
    user_name TEXT NOT NULL PRIMARY KEY,
    password TEXT NOT NULL,
    totp BYTEA,
    totp_step BIGINT,
    failures BIGINT NOT NULL,
    last_failure_at BIGINT,
    locked_until BIGINT,
    enrolled_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE enrolment_links (
    hash TEXT NOT NULL PRIMARY KEY,
    user_name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
CREATE INDEX enrolment_links_user ON enrolment_links (user_name);

CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user_name TEXT NOT NULL,
    client TEXT NOT NULL,
    factors TEXT NOT NULL,
    factor_at BIGINT NOT NULL,
    signed_in_at BIGINT NOT NULL,
    refreshed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    source TEXT,
    user_agent TEXT NOT NULL,
    ended_at BIGINT,
    end_reason TEXT
);
CREATE INDEX sessions_user ON sessions (user_name);
CREATE INDEX sessions_live ON sessions (ended_at, expires_at);

CREATE TABLE session_tokens (
    hash TEXT NOT NULL PRIMARY KEY,
    session TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    spent_at BIGINT
);
CREATE INDEX session_tokens_session ON session_tokens (session);

CREATE TABLE login_codes (
    hash TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    user_code TEXT UNIQUE,
    challenge TEXT NOT NULL,
    redirect_uri TEXT,
    source TEXT,
    user_agent TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    polled_at BIGINT,
    approval TEXT,
    denied_at BIGINT,
    used_at BIGINT
);
CREATE INDEX login_codes_expiry ON login_codes (expires_at);

CREATE TABLE join_tokens (
    hash TEXT NOT NULL PRIMARY KEY,
    cluster TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
CREATE INDEX join_tokens_cluster ON join_tokens (cluster);

CREATE TABLE cluster_trust (
    cluster TEXT NOT NULL PRIMARY KEY,
    issuer TEXT NOT NULL,
    jwks TEXT NOT NULL,
    registered_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE provisioned_sessions (
    session TEXT NOT NULL,
    cluster TEXT NOT NULL,
    generation BIGINT NOT NULL,
    state TEXT NOT NULL,
    uids TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (session, cluster)
);
CREATE INDEX provisioned_sessions_state ON provisioned_sessions (cluster, state);

CREATE TABLE keys (
    name TEXT NOT NULL PRIMARY KEY,
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE uses (
    plane TEXT NOT NULL,
    principal TEXT NOT NULL,
    cluster TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    allowed BIGINT NOT NULL,
    permission TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    count BIGINT NOT NULL,
    sample TEXT NOT NULL,
    PRIMARY KEY (cluster, principal, action, resource, permission, allowed, plane)
);
CREATE INDEX uses_permission ON uses (permission, last_at);
CREATE INDEX uses_last ON uses (last_at);

CREATE TABLE audit_entries (
    position BIGINT NOT NULL PRIMARY KEY,
    writer TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL,
    body TEXT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    outcome TEXT NOT NULL,
    user_name TEXT,
    session TEXT,
    cluster TEXT,
    namespace TEXT,
    resource TEXT,
    subresource TEXT,
    verb TEXT,
    target TEXT,
    audit_id TEXT NOT NULL,
    UNIQUE (writer, epoch, seq)
);
CREATE INDEX audit_entries_at ON audit_entries (at);
CREATE INDEX audit_entries_audit_id ON audit_entries (audit_id);
CREATE INDEX audit_entries_user ON audit_entries (user_name, position);
CREATE INDEX audit_entries_session ON audit_entries (session, position);

CREATE TABLE audit_checkpoints (
    seq BIGINT NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL,
    body TEXT NOT NULL,
    signature BYTEA NOT NULL
);
