"""Commands on the processes of a cluster on this machine."""
