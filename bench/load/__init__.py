"""Load: throughput and latency of several instances, offline and under arrivals."""
