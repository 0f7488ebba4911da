"""What a group coordinator decides: members, rebalances, offsets."""
