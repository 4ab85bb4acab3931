"""Turn a teacher's scores into what a student learns from: targets for the loss, and labels to validate by.

Knows no model.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ranker.train.query_groups import ScoredGroups

TARGET_SPREAD = 2.0
"""Standard deviation of the targets within groups. Chosen by us: of 100 normal scores the softmax then gives about
seven tenths to the ten best."""


def distillation_targets(teacher: ScoredGroups) -> ScoredGroups:
    """The groups with the teacher's ten best candidates as relevant, and its scores on a scale to learn from.

    The scores are centred within each group and brought to a standard deviation of `TARGET_SPREAD`: cosines lie so near
    to each other that a softmax would teach nothing, a decoder's logits so far apart that it would teach one candidate.
    """
    groups, scores = teacher.groups, teacher.scores
    is_candidate = groups.is_candidate
    count = is_candidate.sum(axis=1, keepdims=True).clip(min=1)
    mean = np.where(is_candidate, scores, 0).sum(axis=1, keepdims=True) / count
    centred = np.where(is_candidate, scores - mean, 0)
    spread = float(np.sqrt((centred**2).sum() / max(1, is_candidate.sum())))
    targets = np.asarray(centred * (TARGET_SPREAD / spread if spread else 0), np.float32)
    labels = np.zeros_like(groups.labels)
    np.put_along_axis(labels, groups.ranked(targets), True, axis=1)
    labels &= is_candidate
    return ScoredGroups(replace(groups, labels=labels, relevant_counts=labels.sum(axis=1, dtype=np.int32)), targets)
