"""The transaction coordinator in the broker: how its records are stored."""
