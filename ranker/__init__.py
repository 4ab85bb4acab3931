"""Candidates to scores to a list, and the training and evaluation of that. Knows no transport."""
