"""Why an item is in a list: what the evidence is, and how a reason says it in a language."""
