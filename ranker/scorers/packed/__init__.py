"""Several requests, each a context and all its candidates, in one sequence of a language model."""
