"""Step 3: candidates from several sources, each with its retrieval score."""
