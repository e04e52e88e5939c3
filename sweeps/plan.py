"""From what was typed to the values of each run: every combination (grid), or one after the other (list)."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping
from typing import Literal

Mode = Literal["grid", "list"]
RUNS_MOST = 200


class PlanRefused(Exception):
    """The values make no plan; ``str(error)`` says what to change."""


def values_split(text: str) -> list[str]:
    """Return the values of a field: separated by commas, and in double quotes where one has a comma in it."""
    (row,) = csv.reader([" ".join(text.splitlines())], skipinitialspace=True)
    return [value.strip() for value in row]


def plan(values: Mapping[str, list[str]], mode: Mode) -> list[dict[str, str]]:
    """Return the values of each run.

    Args:
        values: for each name the values that it takes.
        mode: ``grid``: every combination, the last name changing first; ``list``: the first of each, the second of each
            and so on, where a name with one value keeps it.

    Raises:
        PlanRefused: nothing varies, the lists have different lengths, or it would be more than 200 runs.
    """
    if not any(len(each) > 1 for each in values.values()):
        raise PlanRefused("Give at least one parameter several values, separated by commas.")
    if mode == "grid":
        size = 1
        for each in values.values():
            size *= len(each)
        if size > RUNS_MOST:
            raise PlanRefused(f"These are {size} combinations; {RUNS_MOST} runs are allowed. Give fewer values.")
        return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]
    lengths = {len(each) for each in values.values() if len(each) > 1}
    if len(lengths) > 1:
        found = ", ".join(f"{name.partition('.')[2]}: {len(each)}" for name, each in values.items() if len(each) > 1)
        raise PlanRefused(f"Value by value, every parameter needs as many values as the others ({found}).")
    (length,) = lengths
    if length > RUNS_MOST:
        raise PlanRefused(f"These are {length} runs; {RUNS_MOST} are allowed.")
    return [{name: each[i if len(each) > 1 else 0] for name, each in values.items()} for i in range(length)]
