"""Steps 4 and 5, the rank tier: a rank request becomes a list."""
