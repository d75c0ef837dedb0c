"""The models that are measured, and what is known of them."""
