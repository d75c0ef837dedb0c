"""8-bit weights and activations: ranges, rounding, and what they cost."""
