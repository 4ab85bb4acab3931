"""`afterclick simulate`: generated people live with the lists of each ranker for a month."""
