"""Jobs: the master that assigns them, the workers that do them."""
