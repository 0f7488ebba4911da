"""What the master of jobs decides: which worker does which task."""
