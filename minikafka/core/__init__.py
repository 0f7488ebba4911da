"""The decisions of replication, pure: event and time in, effects out."""
