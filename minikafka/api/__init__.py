"""Requests, results and services: what doors, broker and core say to each other."""
