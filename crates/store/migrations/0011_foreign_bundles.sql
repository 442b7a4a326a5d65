-- Bundles of trust domains of somebody else, as they were fetched last for a Federation.
CREATE TABLE foreign_bundles (
    federation TEXT NOT NULL PRIMARY KEY,
    uid TEXT NOT NULL,
    source TEXT NOT NULL,
    bundle TEXT,
    fetched_at BIGINT,
    failure TEXT,
    failing_since BIGINT
);
