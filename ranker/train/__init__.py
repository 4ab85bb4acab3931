"""Learning to rank from what users did: query groups in, a model's folder out. Knows no transport and no log."""
