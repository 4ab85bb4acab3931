"""The process: Faust apps for the roles asked for, and what surrounds them."""
