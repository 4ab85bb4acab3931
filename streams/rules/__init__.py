"""The team's rules in a process: read from their file, applied to the items of the catalogue."""
