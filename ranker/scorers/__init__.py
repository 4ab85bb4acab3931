"""Step 4: the models that score candidates, one module each."""
