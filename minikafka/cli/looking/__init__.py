"""Commands that look into something: ZooKeeper, logs, the dashboard, the lab."""
