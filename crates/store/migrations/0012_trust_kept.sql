-- What the agent of a cluster keeps of other trust domains: the bundles it tells its nodes of, by their digests; null where it does not say.
CREATE TABLE trust_kept (
    cluster TEXT NOT NULL PRIMARY KEY,
    uid TEXT NOT NULL,
    kept TEXT,
    heard_at BIGINT NOT NULL
);
-- What was fetched counts for a trust domain, wherever it was fetched; and until another bundle is given.
DROP TABLE foreign_bundles;
CREATE TABLE foreign_bundles (
    federation TEXT NOT NULL PRIMARY KEY,
    uid TEXT NOT NULL,
    trust_domain TEXT NOT NULL,
    given TEXT NOT NULL,
    bundle TEXT,
    refused TEXT NOT NULL,
    fetched_at BIGINT,
    failure TEXT,
    failing_since BIGINT
);
