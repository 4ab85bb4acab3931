"""Learnt neighbours: a table of item-to-item weights, its fit in closed form, and the search for its settings."""
