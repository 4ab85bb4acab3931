"""The command `embed-images`."""
