"""What a transaction coordinator decides: producers and their epochs, outcomes, markers."""
