-- Where a cluster's agents run, as it was declared at the join: agents in the cluster prove their pods.
ALTER TABLE cluster_trust ADD COLUMN shape TEXT NOT NULL DEFAULT 'in-cluster';
