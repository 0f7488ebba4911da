"""What a replica decides: as leader, as follower, and when it changes from one to the other."""
