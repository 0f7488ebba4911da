"""Reading records: fetching, positions, groups."""
