"""The memory that a model takes in a process of its own."""
