"""Everything that speaks to ZooKeeper; the only importer of kazoo."""
