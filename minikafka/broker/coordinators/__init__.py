"""What every coordinator over a topic of its own needs: its partitions read, written, and timed."""
