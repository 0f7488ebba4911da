"""Replicas: producing, fetching, following a leader, proposing ISRs."""
