"""Trains the nets of Table 1 by the recipe of section 3.1."""
