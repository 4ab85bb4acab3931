"""Steps 2 and 3, the state tier: a message becomes an interest state, a state a rank request."""
