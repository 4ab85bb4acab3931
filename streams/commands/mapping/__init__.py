"""`afterclick map`: what the records of a topic become, and how to map those of a new topic."""
