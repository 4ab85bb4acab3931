"""HTTP: lists, events and scores for clients in any language, and the live page."""
