"""Clusters on this machine: processes, ports, cluster.json, accidents."""
