"""The live page: a shop, and the list of a shopper that changes with every click."""
