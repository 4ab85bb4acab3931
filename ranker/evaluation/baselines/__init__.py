"""The baselines: traditional methods, each tuned on the validation part, that the lists must beat."""
