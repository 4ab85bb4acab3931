"""The fusion head: a model's score and features in, one score out."""
