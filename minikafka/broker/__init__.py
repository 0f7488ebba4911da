"""The runtime of a broker: partitions, replication, controller, request handlers."""
