"""Reading ``conf/fedml.yaml`` through PyYAML's node tree: typed values with their lines, and every problem at once.

YAML 1.1 reads some plain scalars as something that nobody meant: ``1e-3`` as text, ``010`` as 8, ``no`` as false,
``1:30`` as 90, and of two equal keys the last one wins. Each of these is reported with what to write instead.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import yaml
from yaml.constructor import SafeConstructor

from configurations.misreadings import TAG, misreading, shown, text_like_a_number
from configurations.problems import Problem
from configurations.rows import NAME, NAME_RULE, ROWS_MAX, SECTIONS, Row, Value, row_type, value_problem

BYTES_MAX = 256 * 1024
DEPTH_MAX = 12
NODES_MAX = 10_000
PROBLEMS_MAX = 50
ARGUMENTS_MAX = 500

ENTRY_SECTIONS = ("entry_config", "entry_arguments")
ALL_SECTIONS = (*SECTIONS, *ENTRY_SECTIONS)

_SCALAR_TAGS = {f"{TAG}{name}" for name in ("str", "int", "float", "bool", "null")}


@dataclass(frozen=True, slots=True)
class Argument:
    """One entry argument: its name without dashes, its raw value, and its line."""

    name: str
    value: Value
    line: int


@dataclass
class FedmlYaml:
    """What a ``conf/fedml.yaml`` says.

    Attributes:
        model_config, hyperparameters_config: typed rows in the order of the file, each with its line.
        entry_file: path of the entry file, relative to the package's folder; empty when it is missing.
        entry_file_line: its line, or None.
        entry_arguments: arguments in the order of the file; values may hold expressions.
        problems: everything that has to be put right before the file can be used.
        warnings: what is probably not meant, but harmless.
    """

    model_config: list[Row] = field(default_factory=list)
    hyperparameters_config: list[Row] = field(default_factory=list)
    entry_file: str = ""
    entry_file_line: int | None = None
    entry_arguments: list[Argument] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def fedml_yaml_read(data: bytes, file: str) -> FedmlYaml:
    """Read a ``fedml.yaml`` that nobody vouches for.

    Args:
        data: the file's bytes.
        file: how problems name the file.

    Returns:
        What could be read, and all problems. Nothing in the file can raise.
    """
    return _Reader(file).read(data)


class _Mark(Protocol):
    """A place in the file, as PyYAML's reader or its C counterpart marks it; the line counts from 0."""

    line: int


class _Stop(Exception):
    """The file cannot be read any further; the problem is noted already."""


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file
        self._result = FedmlYaml()

    def read(self, data: bytes) -> FedmlYaml:
        try:
            root = self._compose(self._text(data))
            self._sections(root)
        except _Stop:
            pass
        problems = self._result.problems
        if len(problems) > PROBLEMS_MAX:
            more = len(problems) - PROBLEMS_MAX
            problems[PROBLEMS_MAX:] = [
                Problem(self._file, None, f"There are {more} more problems of this file.", "Put these right first.")
            ]
        return self._result

    # --- From bytes to nodes -------------------------------------------------------------------------------------

    def _problem(self, where: yaml.Node | _Mark | int | None, message: str, fix: str) -> None:
        self._result.problems.append(Problem(self._file, _line(where), message, fix))

    def _warn(self, where: yaml.Node | None, message: str, fix: str) -> None:
        self._result.warnings.append(Problem(self._file, _line(where), message, fix))

    def _text(self, data: bytes) -> str:
        if len(data) > BYTES_MAX:
            self._problem(
                None, f"The file is larger than {BYTES_MAX // 1024} KiB.", "Keep data out of it; it holds settings."
            )
            raise _Stop
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self._problem(data.count(b"\n", 0, error.start) + 1, "The line is not valid UTF-8.", "Save it as UTF-8.")
            raise _Stop from None
        for number, line in enumerate(text.splitlines(), start=1):
            indent = line[: len(line) - len(line.lstrip())]
            if "\t" in indent and line.strip() and not line.lstrip().startswith("#"):
                self._problem(number, "The line is indented with a tab.", "Indent with spaces only.")
        if self._result.problems:
            raise _Stop
        return text

    def _compose(self, text: str) -> yaml.Node:
        """Check the event stream against the limits, then make the node tree of its one document."""
        try:
            self._check_events(yaml.parse(text, Loader=yaml.SafeLoader))
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            what = (error.problem or error.context or "syntax error").rstrip(".")
            mark = error.problem_mark or error.context_mark
            self._problem(mark, f"This is not valid YAML: {what}.", _syntax_fix(text, mark, what))
            raise _Stop from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self._problem(line, "The line holds a character that YAML does not allow.", "Remove the control character.")
            raise _Stop from None
        except (ValueError, RecursionError, OverflowError):
            self._problem(None, "The file cannot be read as YAML.", "Keep to plain keys and values.")
            raise _Stop from None
        if root is None:
            self._problem(
                None,
                "The file is empty.",
                f"Write the sections {', '.join(ALL_SECTIONS)}.",
            )
            raise _Stop
        return root

    def _check_events(self, events: Iterator[yaml.Event]) -> None:
        depth = nodes = documents = 0
        for event in events:
            if isinstance(event, yaml.AliasEvent):
                self._problem(
                    event.start_mark,
                    f"The alias *{event.anchor} repeats another value; aliases are not read.",
                    "Write the value out.",
                )
                raise _Stop
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._problem(event.start_mark, "A second document begins here.", "Keep one; remove the line ---.")
                    raise _Stop
            if isinstance(event, yaml.NodeEvent):
                nodes += 1
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > DEPTH_MAX or nodes > NODES_MAX:
                limit = f"more than {DEPTH_MAX} levels deep" if depth > DEPTH_MAX else f"more than {NODES_MAX} values"
                self._problem(event.start_mark, f"The file is {limit}.", "The four sections hold flat lists of values.")
                raise _Stop

    # --- From nodes to sections ----------------------------------------------------------------------------------

    def _sections(self, root: yaml.Node) -> None:
        if root.tag != f"{TAG}map" or not isinstance(root, yaml.MappingNode):
            self._problem(root, "The file is not a map of sections.", f"Write the sections {', '.join(ALL_SECTIONS)}.")
            raise _Stop
        sections: dict[str, yaml.Node] = {}
        for name, key, node in self._pairs(root, "section"):
            sections[name] = node
            if name not in ALL_SECTIONS:
                close = difflib.get_close_matches(name, ALL_SECTIONS, n=1)
                fix = f"Did you mean {close[0]}?" if close else f"The sections are {', '.join(ALL_SECTIONS)}."
                self._warn(key, f"The section {shown(name)} is not known and is ignored.", fix)
        for name in SECTIONS:
            rows = self._rows(name, sections.get(name))
            setattr(self._result, name, rows)
        self._entry_config(sections.get("entry_config"))
        self._entry_arguments(sections.get("entry_arguments"))

    def _pairs(self, mapping: yaml.MappingNode, what: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        """Yield name, key node and value node of a map, leaving out (and reporting) keys that cannot be used."""
        lines: dict[str, int] = {}
        for key, value in mapping.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, f"The name of this {what} is a list or a map.", "Write plain text before the colon.")
                continue
            name = key.value
            if name == "<<" and key.style is None:
                self._problem(key, "The merge key << is not read.", "Write the values out.")
            elif name in lines:
                self._problem(
                    key,
                    f"The {what} {shown(name)} stands here again; it is on line {lines[name]} already,"
                    " and YAML would silently take the last one.",
                    "Remove one of the two.",
                )
            else:
                lines[name] = _line(key) or 0
                yield name, key, value

    def _map(self, name: str, node: yaml.Node | None) -> yaml.MappingNode | None:
        """Return a section's node if it is a map; a section that is left empty is as good as missing."""
        if node is None or _is_empty(node):
            return None
        if node.tag != f"{TAG}map" or not isinstance(node, yaml.MappingNode):
            self._problem(node, f"The section {name} is not a map.", "Write one 'name: value' a line, indented.")
            return None
        return node

    def _rows(self, section: str, node: yaml.Node | None) -> list[Row]:
        mapping = self._map(section, node)
        rows: list[Row] = []
        if mapping is None:
            return rows
        for name, key, value_node in self._pairs(mapping, "name"):
            if not NAME.fullmatch(name):
                self._problem(key, f"The name {shown(name)} is not usable in {section}.", f"Use {NAME_RULE}.")
                continue
            if len(rows) >= ROWS_MAX:
                self._problem(key, f"{section} has more than {ROWS_MAX} values.", "Remove what no argument needs.")
                break
            value = self._value(name, value_node)
            rows.append({"name": name, "type": row_type(value), "value": value, "line": _line(key) or 0})
        return rows

    def _entry_config(self, node: yaml.Node | None) -> None:
        mapping = self._map("entry_config", node)
        entry_node = None
        if mapping is not None:
            for name, key, value in self._pairs(mapping, "name"):
                if name == "entry_file":
                    entry_node = value
                else:
                    self._warn(key, f"entry_config.{shown(name)} is not known and is ignored.", "Remove it.")
        if entry_node is None or _is_empty(entry_node):
            self._problem(
                entry_node or node,
                "entry_config.entry_file is missing.",
                "Write entry_config: and below it, indented, entry_file: with the path of your main file.",
            )
            return
        self._result.entry_file_line = _line(entry_node)
        if not isinstance(entry_node, yaml.ScalarNode):
            self._problem(entry_node, "entry_config.entry_file is not text.", "Write the path of one file.")
        elif "${" in entry_node.value:
            self._problem(entry_node, "entry_config.entry_file holds an expression.", "Write the path of one file.")
        else:
            self._result.entry_file = entry_node.value

    def _entry_arguments(self, node: yaml.Node | None) -> None:
        mapping = self._map("entry_arguments", node)
        if mapping is None:
            return
        for name, key, value_node in self._pairs(mapping, "argument"):
            if not NAME.fullmatch(name):
                self._problem(key, f"The argument name {shown(name)} is not usable.", f"Use {NAME_RULE}.")
                continue
            if len(self._result.entry_arguments) >= ARGUMENTS_MAX:
                self._problem(key, f"There are more than {ARGUMENTS_MAX} arguments.", "Remove some.")
                break
            value = self._value(name, value_node)
            self._result.entry_arguments.append(Argument(name, value, _line(key) or 0))

    # --- Values --------------------------------------------------------------------------------------------------

    def _value(self, name: str, node: yaml.Node) -> Value:
        if not isinstance(node, yaml.ScalarNode) and node.tag not in (f"{TAG}seq", f"{TAG}map"):
            self._tag_problem(name, node)
            return None
        if isinstance(node, yaml.SequenceNode):
            elements: list[Any] = []
            for element in node.value:
                if isinstance(element, yaml.ScalarNode):
                    elements.append(self._scalar(name, element))
                else:
                    self._problem(
                        element,
                        f"The list {shown(name)} holds another list or a map.",
                        "Write a list of plain values, or one value a row.",
                    )
            if problem := value_problem(elements):
                self._problem(node, f"{shown(name)}: {problem}", "Write a shorter list.")
            return elements
        if not isinstance(node, yaml.ScalarNode):
            self._problem(
                node,
                f"{shown(name)} is a map; a value is text, a number, true, false, null or a list of these.",
                "Write each of its values as a row of its own, or quote an expression: '${...}'.",
            )
            return None
        value: Value = self._scalar(name, node)
        return value

    def _tag_problem(self, name: str, node: yaml.Node) -> None:
        self._problem(
            node,
            f"{shown(name)} has the tag {shown(node.tag)}, which is not read.",
            "Write a plain value without !.",
        )

    def _scalar(self, name: str, node: yaml.ScalarNode) -> Any:
        """Return the typed value of a scalar, reporting what YAML reads otherwise than it looks."""
        name, text = shown(name), node.value
        plain = node.style is None
        if plain and node.tag == f"{TAG}str" and (misread := text_like_a_number(text)):
            self._problem(node, f"YAML reads {name}: {shown(text)} as text.", misread)
            return text
        if plain and (meaning_and_fix := misreading(node.tag, text)):
            meaning, fix = meaning_and_fix
            self._problem(node, f"YAML reads {name}: {shown(text)} as {meaning}.", fix)
            return text
        if node.tag in (f"{TAG}value", f"{TAG}merge"):  # a lone = or <<
            return text
        if node.tag not in _SCALAR_TAGS:
            self._tag_problem(name, node)
            return text
        try:
            value = _CONSTRUCTOR.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError, KeyError):
            kind = node.tag.removeprefix(TAG)
            self._problem(node, f"{name} cannot be read as {kind}.", "Write a plain value without !!.")
            return text
        if isinstance(value, float) and not math.isfinite(value):
            self._problem(node, f"{name} is not a finite number.", "Write a finite number.")
            return text
        if problem := value_problem(value):
            self._problem(node, f"{name}: {problem}", "Change the value.")
            return text
        return value


_CONSTRUCTOR = SafeConstructor()


def _is_empty(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and (node.tag == f"{TAG}null" or not node.value)


def _line(where: yaml.Node | _Mark | int | None) -> int | None:
    if where is None or isinstance(where, int):
        return where
    mark = where.start_mark if isinstance(where, yaml.Node) else where
    return int(mark.line) + 1


def _syntax_fix(text: str, mark: _Mark | None, what: str) -> str:
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "${" in line and "{" in line.replace("${", ""):
        return "Put each expression inside { } in quotes: '${...}'."
    if "mapping values are not allowed" in what:
        return "Put a value that holds a colon in quotes, and look at the indentation of this line."
    if "could not find expected ':'" in what:
        return "Write name: value, with a space behind the colon, on the line before."
    if "expected <block end>" in what:
        return "Look at the indentation: names of one section begin in the same column."
    return "Look at this line and the one before it for a missing quote, colon or bracket."
