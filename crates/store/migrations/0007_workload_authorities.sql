-- The authorities that were certified for the workloads of clusters: what a cluster speaks for does not change any more, and how often
-- one was certified is counted.
CREATE TABLE workload_authorities (
    serial TEXT NOT NULL PRIMARY KEY,
    cluster TEXT NOT NULL,
    trust_domain TEXT NOT NULL,
    key_digest TEXT NOT NULL,
    certified_at BIGINT NOT NULL,
    not_after BIGINT NOT NULL
);
CREATE INDEX workload_authorities_cluster ON workload_authorities (cluster, certified_at);
