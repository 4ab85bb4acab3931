"""Spaces that are learnt: an adapter that maps texts' vectors to a space of the shop, and its fit."""
