"""The fusion head: a model's score and a candidate's features in, one score out."""
