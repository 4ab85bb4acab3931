"""The events of a user as a state keeps them."""
