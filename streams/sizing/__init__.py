"""What an installation needs for its load: the costs that were measured, and what follows from them."""
