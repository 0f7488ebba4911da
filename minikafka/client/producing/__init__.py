"""Sending records: batches, partitions, retries, idempotence."""
