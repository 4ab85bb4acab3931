"""The traditional methods, each tuned on the validation part: what the lists must beat."""
