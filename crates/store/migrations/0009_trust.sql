-- How the authority of each cluster's workloads stands, as its agent told last and the hub verified; and who had it replaced.
CREATE TABLE trust_standings (
    cluster TEXT NOT NULL PRIMARY KEY,
    uid TEXT NOT NULL,
    trust_domain TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    standing TEXT NOT NULL,
    told_at BIGINT NOT NULL
);
CREATE TABLE trust_rotations (
    id TEXT NOT NULL PRIMARY KEY,
    cluster TEXT NOT NULL,
    uid TEXT NOT NULL,
    mode TEXT NOT NULL,
    reason TEXT NOT NULL,
    ordered_by TEXT NOT NULL,
    ordered_at BIGINT NOT NULL,
    take_until BIGINT NOT NULL,
    progress TEXT NOT NULL,
    changed_at BIGINT NOT NULL
);
CREATE INDEX trust_rotations_cluster ON trust_rotations (cluster, ordered_at);
