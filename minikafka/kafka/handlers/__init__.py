"""Handlers of all requests but produce and fetch, by what they are about."""
