-- Which numbered batch an agent told last: none is counted twice.
CREATE TABLE agent_reports (
    cluster TEXT NOT NULL,
    instance TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    number BIGINT NOT NULL,
    heard_at BIGINT NOT NULL,
    PRIMARY KEY (cluster, instance)
);
CREATE INDEX agent_reports_heard ON agent_reports (heard_at);

-- What is not as it should be. Severity is its rank, so that it can be compared.
CREATE TABLE findings (
    id TEXT NOT NULL PRIMARY KEY,
    source TEXT NOT NULL,
    cluster TEXT NOT NULL,
    api_group TEXT NOT NULL,
    api_version TEXT NOT NULL,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name TEXT NOT NULL,
    uid TEXT NOT NULL,
    part TEXT NOT NULL,
    policy TEXT NOT NULL,
    severity BIGINT NOT NULL,
    state TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    resolved_at BIGINT,
    term BIGINT NOT NULL,
    scan BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX findings_object ON findings (cluster, source, api_group, kind, namespace, name, part);
CREATE INDEX findings_uid ON findings (cluster, uid);
CREATE INDEX findings_state ON findings (cluster, state, resolved_at);
CREATE INDEX findings_worst ON findings (severity DESC, cluster, namespace, kind, name, id);

-- The newest scan of a cluster, and what the last one that ended came to.
CREATE TABLE finding_scans (
    cluster TEXT NOT NULL,
    source TEXT NOT NULL,
    term BIGINT NOT NULL,
    scan BIGINT NOT NULL,
    began_at BIGINT NOT NULL,
    folded BIGINT NOT NULL,
    finished_at BIGINT,
    objects BIGINT NOT NULL,
    policies BIGINT NOT NULL,
    faults TEXT NOT NULL,
    PRIMARY KEY (cluster, source)
);

-- How many different uses a cluster's agents told of is counted before another is added.
CREATE INDEX uses_cluster ON uses (cluster, plane);
