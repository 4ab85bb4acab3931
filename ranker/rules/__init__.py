"""A team's rules for lists: which items may be in a list, and where."""
