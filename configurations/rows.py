"""Typed rows: the values of ``model_config`` and ``hyperparameters_config`` as packages, forms and runs hold them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypedDict, cast

from configurations.problems import Problem

SECTIONS = ("model_config", "hyperparameters_config")

Scalar = str | int | float | bool | None
Value = Scalar | list[Scalar]
RowType = Literal["integer", "float", "string", "boolean", "list", "null"]

ROW_TYPES: dict[RowType, str] = {
    "integer": "Whole number",
    "float": "Number",
    "string": "Text",
    "boolean": "True or false",
    "list": "List",
    "null": "Empty",
}

ROWS_MAX = 150  # in each section; a form's fields are limited too
TEXT_MAX = 10_000
LIST_MAX = 1_000
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
NAME_RULE = "letters, digits, _ . and -, beginning with a letter or _, at most 100 characters"
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1


class Row(TypedDict):
    """One named value. ``line`` is its line in ``conf/fedml.yaml`` where it was read from a package."""

    name: str
    type: RowType
    value: Value
    line: NotRequired[int]


def row_type(value: Value) -> RowType:
    """Return the type of a row that holds ``value``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "float"
    return "list" if isinstance(value, list) else "string"


def value_problem(value: Any) -> str | None:
    """Say in a sentence why ``value`` cannot be a row's value, or return None when it can.

    Allowed are text, whole numbers of 64 bits, finite numbers, true, false, null, and lists of these.
    """
    if isinstance(value, list):
        if len(value) > LIST_MAX:
            return f"The list has {len(value)} elements; {LIST_MAX} are allowed."
        for element in value:
            if isinstance(element, list | dict):
                return "A list may hold text, numbers, true, false and null, but no list or map."
            if problem := value_problem(element):
                return problem
        return None
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int):
        return None if INTEGER_MIN <= value <= INTEGER_MAX else "The whole number does not fit into 64 bits."
    if isinstance(value, float):
        return None if math.isfinite(value) else "The number is not finite."
    if isinstance(value, str):
        if len(value) > TEXT_MAX:
            return f"The text has {len(value)} characters; {TEXT_MAX} are allowed."
        if "\0" in value:
            return "The text holds a NUL character, which no program can be given as an argument."
        if not value.isprintable() and any("\ud800" <= character <= "\udfff" for character in value):
            return "The text holds half of a surrogate pair, which is not valid Unicode."
        return None
    return "The value is a map; a row holds one value or a list of values."


def value_parse(type_: RowType, text: str) -> Value:
    """Read what a person typed into a row of the given type.

    Raises:
        ValueError: with a sentence that says what to type instead.
    """
    stripped = text.strip()
    if type_ != "string" and "${" in stripped and type_ != "list":
        raise ValueError(
            "An expression needs the type Text. Where it is the whole value, it keeps the type of what it points to."
        )
    if type_ == "string":
        value: Value = text
    elif type_ == "integer":
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", stripped):
            raise ValueError("This is not a whole number. Type digits only, such as 8, or choose another type.")
        value = int(stripped)
    elif type_ == "float":
        if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", stripped):
            raise ValueError("This is not a number. Type one such as 0.03 or 1e-3, or choose another type.")
        value = float(stripped)
    elif type_ == "boolean":
        if stripped.lower() not in ("true", "false"):
            raise ValueError("Type true or false, or choose another type.")
        value = stripped.lower() == "true"
    elif type_ == "null":
        if stripped not in ("", "null"):
            raise ValueError("A row of the type Empty has no value. Clear the value or choose another type.")
        value = None
    else:
        value = _list_parse(stripped)
    if problem := value_problem(value):
        raise ValueError(problem)
    return value


def _list_parse(text: str) -> list[Scalar]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list):
        raise ValueError('This is not a list. Type it as JSON, such as [64, 32] or ["a", "b"].')
    return cast(list[Scalar], value)


def value_text(value: Value) -> str:
    """Return ``value`` as a person types it into a row of its type; the reverse of :func:`value_parse`."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def rows_problems(section: str, rows: Iterable[Row]) -> list[Problem]:
    """Return what is wrong with the rows of one section: names, names used twice, values, their number."""
    problems = []
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        place = f"{section}.{row['name']}" if row["name"] else f"{section}, row {number}"
        if number > ROWS_MAX:
            problems.append(
                Problem(section, None, f"There are more than {ROWS_MAX} rows.", "Remove those that no argument needs.")
            )
            break
        if not row["name"]:
            problems.append(Problem(place, None, "The row has no name.", "Type a name or remove the row."))
        elif not NAME.fullmatch(row["name"]):
            problems.append(Problem(place, None, "The name is not usable.", f"Use {NAME_RULE}."))
        elif row["name"] in seen:
            problems.append(Problem(place, None, "The name stands in two rows.", "Rename or remove one of them."))
        if problem := value_problem(row["value"]):
            problems.append(Problem(place, None, problem, "Change the value."))
        seen.add(row["name"])
    return problems
