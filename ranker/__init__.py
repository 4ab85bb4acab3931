"""Candidates to scores to a list, and the training and evaluation of the models. Knows no transport."""
