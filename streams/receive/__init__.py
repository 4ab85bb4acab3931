"""Step 1: one message is decoded and validated, or rejected with the reason in words."""
