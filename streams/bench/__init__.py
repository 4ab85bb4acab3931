"""`afterclick bench`: speed against the hardware's limit or a peer, measured in the same run."""
