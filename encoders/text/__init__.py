"""Texts to tokens, batches and vectors."""
