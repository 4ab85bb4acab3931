"""Learning to rank from what people did: lists in, a model's folder out. Knows no transport and no log."""
