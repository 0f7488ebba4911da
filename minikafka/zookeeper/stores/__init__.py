"""What brokers keep in ZooKeeper: registrations, elections, fenced writes, jobs, nodes."""
