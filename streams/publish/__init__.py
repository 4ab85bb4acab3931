"""Step 6: lists to Redis, and what Redis lost back from the topic of lists."""
