"""What the controller decides: leaders, ISRs, topics, replicas that move."""
