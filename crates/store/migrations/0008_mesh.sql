-- Calls between workloads, each kind of them once; `body` is the whole key, `id` a hash of it and the cluster.
CREATE TABLE mesh_edges (
    id TEXT NOT NULL PRIMARY KEY,
    cluster TEXT NOT NULL,
    source TEXT NOT NULL,
    source_namespace TEXT NOT NULL,
    destination_namespace TEXT NOT NULL,
    verdict TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX mesh_edges_source ON mesh_edges (cluster, source);

-- How often, merged over an hour, or over a day once it is older. `begin_at` and `span` are seconds.
CREATE TABLE mesh_counts (
    edge TEXT NOT NULL,
    cluster TEXT NOT NULL,
    begin_at BIGINT NOT NULL,
    span BIGINT NOT NULL,
    connections BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    bytes_to_destination BIGINT NOT NULL,
    bytes_to_source BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    sample TEXT NOT NULL,
    PRIMARY KEY (edge, begin_at, span)
);
CREATE INDEX mesh_counts_cluster ON mesh_counts (cluster, last_at);
CREATE INDEX mesh_counts_begin ON mesh_counts (begin_at);

-- When a cluster told of its mesh last, and what is not known of it.
CREATE TABLE mesh_told (
    cluster TEXT NOT NULL PRIMARY KEY,
    told_at BIGINT NOT NULL,
    incomplete_at BIGINT,
    lost_flows BIGINT NOT NULL,
    lost_denials BIGINT NOT NULL,
    unwritten_denials BIGINT NOT NULL,
    disbelieved BIGINT NOT NULL,
    folded BIGINT NOT NULL
);
