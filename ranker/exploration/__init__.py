"""Exploration: some places of a list go to other items, chosen by what a model does not know."""
