"""Servers for a cluster on this machine: embedded, Apache ZooKeeper, an ensemble of it."""
