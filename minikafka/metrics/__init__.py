"""What a broker tells the outside of itself in numbers: /metrics for Prometheus."""
