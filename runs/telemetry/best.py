"""The one number by which a list shows how good a run is: the best aggregated value of its leading metric."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

# What a name's words say of it: the earlier a pattern, the rather its metric leads. True: more is better.
_RANKS: tuple[tuple[re.Pattern[str], bool], ...] = (
    (re.compile(r"^(test|val|eval|validation).*acc"), True),
    (re.compile(r"acc"), True),
    (re.compile(r"auc|f1|precision|recall|bleu|rouge|iou|dice|r2|score"), True),
    (re.compile(r"^(test|val|eval|validation).*loss"), False),
    (re.compile(r"loss|error|perplexity|rmse|mae|mse"), False),
)


class Candidate(NamedTuple):
    """A value that the aggregator reported."""

    name: str
    value: float
    round: int | None


def best_metric(current: dict[str, Any] | None, candidates: Iterable[Candidate]) -> dict[str, Any] | None:
    """Return the best of what is known and what is new, as ``{"name", "value", "round"}``.

    A metric leads another by its name (accuracy before other scores, those before losses; test before train), and stays
    in the lead once it is there. Names that say nothing of more or less being better are left out.

    Args:
        current: the best so far, or None.
        candidates: new values of the aggregator; those that are no numbers are ignored.
    """
    best = current
    for candidate in candidates:
        rank = _rank(candidate.name)
        if rank is None or not math.isfinite(candidate.value):
            continue
        if best is not None and candidate.name == best["name"]:
            more = _RANKS[rank][1]
            better = candidate.value > best["value"] if more else candidate.value < best["value"]
        else:
            leading = None if best is None else _rank(best["name"])
            better = leading is None or rank < leading
        if better:
            best = {"name": candidate.name, "value": candidate.value, "round": candidate.round}
    return best


def more_is_better(name: str) -> bool | None:
    """Return whether more of a metric is better, as far as its name tells."""
    rank = _rank(name)
    return None if rank is None else _RANKS[rank][1]


def _rank(name: str) -> int | None:
    """Position of the first pattern that the name's last part matches."""
    text = re.sub(r"[\s./:-]+", "_", name.lower())
    for position, (pattern, _) in enumerate(_RANKS):
        if pattern.search(text):
            return position
    return None
