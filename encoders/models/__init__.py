"""A model's files, its device and number format, and what it costs."""
