"""What is exported and how, as data."""
