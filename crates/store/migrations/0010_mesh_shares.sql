-- Whose part of a cluster's room calls take: that of the namespace that calls, else of the one that is called.
ALTER TABLE mesh_edges ADD COLUMN payer TEXT NOT NULL DEFAULT '';
UPDATE mesh_edges SET payer = CASE
    WHEN source_namespace <> '' THEN 'from ' || source_namespace
    ELSE 'to ' || destination_namespace
END;
ALTER TABLE mesh_counts ADD COLUMN payer TEXT NOT NULL DEFAULT '';
UPDATE mesh_counts SET payer = COALESCE((SELECT e.payer FROM mesh_edges e WHERE e.id = edge), '');
DROP INDEX mesh_edges_source;
CREATE INDEX mesh_edges_payer ON mesh_edges (cluster, payer, source);
CREATE INDEX mesh_counts_payer ON mesh_counts (cluster, payer);
-- Who may see some namespaces alone reads no others.
CREATE INDEX mesh_edges_source_namespace ON mesh_edges (cluster, source_namespace);
CREATE INDEX mesh_edges_destination_namespace ON mesh_edges (cluster, destination_namespace);
