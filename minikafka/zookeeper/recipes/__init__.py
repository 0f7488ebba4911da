"""Barriers, locks, and a rolling restart under a lock."""
