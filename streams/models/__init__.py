"""The process that holds the models, and how workers call it."""
