"""Kafka v2 record batches: layout, header, build, read, compression. Pure."""
