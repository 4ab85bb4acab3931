"""Candidates to scores to a list, and the training and evaluation of that. Knows no transport."""

from ranker.score import Scorer, ScoreRequest, load_scorer

__all__ = ["ScoreRequest", "Scorer", "load_scorer"]
