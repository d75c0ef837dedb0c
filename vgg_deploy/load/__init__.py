"""Holds the arithmetic of load tests: when requests arrive, and what their latencies show."""
