"""Group coordinators over the partitions of __consumer_offsets."""
