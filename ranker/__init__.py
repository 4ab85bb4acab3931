"""Candidates to scores to a list, and the training and evaluation of that. Knows no transport."""

from ranker.load import load_scorer
from ranker.score import Answer, Learner, Lessons, Scorer, ScoreRequest

__all__ = ["Answer", "Learner", "Lessons", "ScoreRequest", "Scorer", "load_scorer"]
