"""Partition logs in files: segments, indexes, checkpoints, recovery, retention."""
