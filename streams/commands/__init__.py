"""What `afterclick ...` runs: one module or folder per command."""
