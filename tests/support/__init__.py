"""What the system tests and the benchmarks share."""
