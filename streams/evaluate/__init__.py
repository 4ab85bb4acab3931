"""`afterclick evaluate`: how good the lists are, beside every traditional method, on anybody's data."""
