"""Latency: how long calls take."""
