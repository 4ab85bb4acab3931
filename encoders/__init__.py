"""Text to vectors, and vectors to a user's interest state. Knows no transport and no ranking."""
