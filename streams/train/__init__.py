"""`afterclick train`: from recorded events to a model that `ranker.load_scorer` serves."""
