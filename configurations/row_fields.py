"""Rows as a form shows them: text fields, errors, and what the two packages say of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict

from configurations.draft import package_rows, same_value
from configurations.problems import Problem
from configurations.rows import (
    ROW_TYPES,
    ROWS_MAX,
    SECTIONS,
    Row,
    RowType,
    Value,
    rows_problems,
    value_parse,
    value_text,
)

SECTION_TITLES = {"model_config": "Model", "hyperparameters_config": "Hyper-parameters"}
PACKAGE_KINDS = ("server", "client")
Manifests = Mapping[str, Mapping[str, Any] | None]


@dataclass(frozen=True)
class Offer:
    """What one of the packages says of a row. ``chosen``: the row holds just that."""

    kind: str
    type: RowType
    text: str
    chosen: bool


@dataclass
class RowField:
    """One row as it stands in the form. The value is text as a person types it, right or wrong."""

    name: str
    type: RowType
    text: str
    error: str = ""
    offers: list[Offer] = field(default_factory=list)
    packages_differ: bool = False
    only_in: str = ""

    def value(self) -> Value:
        """Raises ValueError with a sentence when the text is no value of the row's type."""
        return value_parse(self.type, self.text)

    @property
    def changed(self) -> bool:
        """Whether the packages agree on another value than the row holds."""
        return bool(self.offers) and not self.packages_differ and not self.offers[0].chosen


@dataclass
class SectionFields:
    """The rows of one section, and the names that a package offers and no row has."""

    name: str
    rows: list[RowField]
    removed: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return SECTION_TITLES[self.name]

    @property
    def add_id(self) -> str:
        """The id of the button that adds a row."""
        return f"{self.name}-add"

    @property
    def numbered(self) -> list[NumberedRow]:
        return [NumberedRow(self.name, index, row) for index, row in enumerate(self.rows)]


@dataclass(frozen=True)
class NumberedRow:
    """A row with its place, from 0, as its inputs and buttons are called by."""

    section: str
    index: int
    row: RowField

    @property
    def place(self) -> str:
        return f"{self.section}:{self.index}"

    @property
    def name_id(self) -> str:
        return f"{self.section}-{self.index}-name"

    @property
    def value_id(self) -> str:
        return f"{self.section}-{self.index}-value"


def fields_from_rows(rows: Iterable[Row]) -> list[RowField]:
    return [RowField(row["name"], row["type"], value_text(row["value"])) for row in rows]


def fields_from_post(data: QueryDict, section: str) -> list[RowField]:
    """Return the rows that a browser sent as repeated fields ``SECTION-name``, ``SECTION-type``, ``SECTION-value``."""
    names, types, texts = (data.getlist(f"{section}-{part}") for part in ("name", "type", "value"))
    fields = []
    for index in range(min(len(names), ROWS_MAX + 1)):
        type_ = types[index] if index < len(types) else "string"
        text = texts[index] if index < len(texts) else ""
        known: RowType = type_ if type_ in ROW_TYPES else "string"
        fields.append(RowField(names[index].strip(), known, text))
    return fields


def sections_from_post(data: QueryDict) -> list[SectionFields]:
    return [SectionFields(section, fields_from_post(data, section)) for section in SECTIONS]


def rows_of(section: SectionFields) -> tuple[list[Row], list[Problem]]:
    """Read a section's fields, put errors beside the fields that have them, and return the rows and all problems.

    The rows hold the text itself where it could not be read, so that a preview can go on.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    for row_field in section.rows:
        try:
            value = row_field.value()
        except ValueError as error:
            row_field.error = str(error)
            place = f"{section.name}.{row_field.name}" if row_field.name else section.name
            problems.append(Problem(place, None, row_field.error, ""))
            value = row_field.text
        rows.append({"name": row_field.name, "type": row_field.type, "value": value})
    for problem in rows_problems(section.name, rows):
        problems.append(problem)
        _place(problem, section)
    return rows, problems


def place_problems(problems: Iterable[Problem], sections: Iterable[SectionFields]) -> None:
    """Put each problem that names a row beside that row."""
    for problem in problems:
        for section in sections:
            _place(problem, section)


def _place(problem: Problem, section: SectionFields) -> None:
    for number, row_field in enumerate(section.rows, start=1):
        places = (f"{section.name}.{row_field.name}", f"{section.name}, row {number}")
        if problem.file in places and not row_field.error:
            row_field.error = f"{problem.message} {problem.fix}"


def compare(section: SectionFields, manifests: Manifests) -> None:
    """Note at every row what the packages say of it, and which of their names no row has."""
    offered = {kind: package_rows(manifests[kind], section.name) for kind in PACKAGE_KINDS}
    both = all(manifests[kind] is not None for kind in PACKAGE_KINDS)
    for row_field in section.rows:
        rows = {kind: offered[kind][row_field.name] for kind in PACKAGE_KINDS if row_field.name in offered[kind]}
        row_field.offers = [
            Offer(kind, row["type"], value_text(row["value"]), _holds(row_field, row)) for kind, row in rows.items()
        ]
        values = [row["value"] for row in rows.values()]
        row_field.packages_differ = len(values) == 2 and not same_value(*values)
        row_field.only_in = next(iter(rows)) if both and len(rows) == 1 else ""
    present = {row_field.name for row_field in section.rows}
    section.removed = [name for name in {**offered["server"], **offered["client"]} if name not in present]


def _holds(row_field: RowField, row: Row) -> bool:
    try:
        return same_value(row_field.value(), row["value"])
    except ValueError:
        return False


def row_action(sections: list[SectionFields], data: QueryDict, manifests: Manifests) -> str:
    """Do what a button of the form asks for, and return the id of the element that gets the focus, or nothing.

    ``row_add=SECTION``, ``row_remove=SECTION:INDEX``, ``row_take=SECTION:INDEX:KIND`` (take a package's value) and
    ``row_restore=SECTION:NAME``. What makes no sense, as the rows have changed meanwhile, does nothing.
    """
    by_name = {section.name: section for section in sections}
    for action in ("row_add", "row_remove", "row_take", "row_restore"):
        if action in data:
            section_name, _, rest = str(data[action]).partition(":")
            section = by_name.get(section_name)
            return _ACTIONS[action](section, rest, manifests) if section else ""
    return ""


def _place_of(index: str, section: SectionFields) -> int | None:
    """Return the index that a button sent, or None where there is no such row."""
    known = {str(place): place for place in range(len(section.rows))}
    return known.get(index)


def _add(section: SectionFields, _: str, __: Manifests) -> str:
    if len(section.rows) < ROWS_MAX:
        section.rows.append(RowField("", "float" if section.name == "hyperparameters_config" else "string", ""))
    return section.numbered[-1].name_id


def _remove(section: SectionFields, index: str, _: Manifests) -> str:
    place = _place_of(index, section)
    if place is None:
        return ""
    del section.rows[place]
    return section.numbered[min(place, len(section.rows) - 1)].name_id if section.rows else section.add_id


def _take(section: SectionFields, rest: str, manifests: Manifests) -> str:
    index, _, kind = rest.partition(":")
    place = _place_of(index, section)
    if place is not None and kind in PACKAGE_KINDS:
        row_field = section.rows[place]
        row = package_rows(manifests[kind], section.name).get(row_field.name)
        if row is not None:
            row_field.type, row_field.text = row["type"], value_text(row["value"])
            return section.numbered[place].value_id
    return ""


def _restore(section: SectionFields, name: str, manifests: Manifests) -> str:
    offered = {**package_rows(manifests["client"], section.name), **package_rows(manifests["server"], section.name)}
    if name in offered and all(row_field.name != name for row_field in section.rows):
        row = offered[name]
        section.rows.append(RowField(name, row["type"], value_text(row["value"])))
        return section.numbered[-1].value_id
    return ""


_ACTIONS = {"row_add": _add, "row_remove": _remove, "row_take": _take, "row_restore": _restore}
