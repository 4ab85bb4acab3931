"""The learning curve: training loss and validation NDCG@10 by epoch or by validation, and its drawing as an SVG.

The SVG is plain text that every browser draws; two lines need no plotting library.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT, MARGIN = 720, 360, 60
LOSS, NDCG, REFERENCE = "#b04a2f", "#2f6fb0", "#888888"


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curve: mean training loss, and validation NDCG@10 (NaN if nothing was validated)."""

    loss: float
    ndcg: float


def svg(title: str, curve: Sequence[Epoch], references: Mapping[str, float], best: int) -> str:
    """Draw the curve, and each reference's NDCG@10 as a dashed line.

    Parameters
    ----------
    title : str
    curve : sequence of Epoch
    references : mapping of str to float
        NDCG@10 by name.
    best : int
        Index of the epoch that was kept.
    """
    losses = [epoch.loss for epoch in curve]
    validated = [epoch.ndcg for epoch in curve if math.isfinite(epoch.ndcg)]
    heights = [*validated, *references.values()]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        _text(WIDTH / 2, 20, title, "#000000", "middle"),
        _line([(MARGIN, HEIGHT - MARGIN), (WIDTH - MARGIN, HEIGHT - MARGIN)], "#000000"),
        _text(WIDTH / 2, HEIGHT - 20, f"epoch, 1 to {len(curve)}; kept: {best + 1}", "#000000", "middle"),
    ]
    for values, colour, name, x, anchor in (
        (losses, LOSS, "training loss", MARGIN - 5, "end"),
        (heights, NDCG, "validation NDCG@10", WIDTH - MARGIN + 5, "start"),
    ):
        if values:
            parts += [
                _text(x, _y(bound, values) + 4, f"{bound:.3f}", colour, anchor) for bound in {min(values), max(values)}
            ]
            parts.append(_text(MARGIN if anchor == "end" else WIDTH - MARGIN, 40, name, colour, "middle"))
    for name, value in references.items():
        height = _y(value, heights)
        parts.append(_line([(MARGIN, height), (WIDTH - MARGIN, height)], REFERENCE, dashed=True))
        parts.append(_text(MARGIN + 5, height - 3, f"{name} {value:.3f}", REFERENCE, "start"))
    parts.append(_line([(_x(index, curve), _y(loss, losses)) for index, loss in enumerate(losses)], LOSS))
    parts.append(_line([(_x(index, curve), _y(value, heights)) for index, value in enumerate(validated)], NDCG))
    return "\n".join([*parts, "</svg>\n"])


def _x(index: int, curve: Sequence[Epoch]) -> float:
    return MARGIN + (WIDTH - 2 * MARGIN) * (index / (len(curve) - 1) if len(curve) > 1 else 0.5)


def _y(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    share = (value - low) / (high - low) if high > low else 0.5
    return HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)


def _line(points: Sequence[tuple[float, float]], colour: str, dashed: bool = False) -> str:
    style = f'stroke="{colour}" stroke-width="1.5"' + (' stroke-dasharray="4 4"' if dashed else "")
    if len(points) == 1:
        return f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="3" fill="{colour}"/>'
    return "\n".join(
        f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" {style}/>' for a, b in pairwise(points)
    )


def _text(x: float, y: float, text: str, colour: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'
