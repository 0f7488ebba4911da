"""What a broker tells of itself in ZooKeeper, and what is told of all."""
