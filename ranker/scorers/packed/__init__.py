"""Several users and all their candidates in one sequence of a language model."""
