"""The knowledge graph: its index in memory, paths in it, and vectors that are trained from it."""
