"""Expressions ``${...}`` in packages and rows, and the entry command that they make.

A value may refer to ``${model_config.KEY}``, ``${hyperparameters_config.KEY}`` or an internal variable, spelled
``${FEDSYS.NAME}`` or ``${FEDSYS_NAME}``. A reference that is the whole value keeps the type of what it points to; one
inside other text becomes text. What a row holds may itself be an expression; what an internal variable holds is data
and is never expanded.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from configurations.problems import Problem
from configurations.rows import SECTIONS, Row, Value

VARIABLES = (
    "RUN_ID",
    "CLIENT_NUM",
    "CLIENT_ID_LIST",
    "CLIENT_INDEX",
    "CLIENT_OBJECT_LIST",
    "PRIVATE_LOCAL_DATA",
    "SYNTHETIC_DATA_URL",
    "IS_USING_LOCAL_DATA",
    "LOG_SERVER_URL",
)
# What the agent replaces by the absolute path under its own data folder (docs/protocol.md, command).
PRIVATE_LOCAL_DATA_TOKEN = "${FEDSYS.PRIVATE_LOCAL_DATA}"  # noqa: S105

CHAIN_MAX = 50
RESOLVED_MAX = 100_000  # characters
ARGUMENT_BYTES_MAX = 128 * 1024 - 256  # Linux takes 128 KiB in one argument, name and end included


class ExpressionError(Exception):
    """An expression that cannot be resolved.

    Attributes:
        file: ``server package: package/conf/fedml.yaml``, or the row such as ``hyperparameters_config.lr``.
        line: line in that file, or None for a row edited in the browser.
        message: what is wrong, as a sentence.
        fix: what to do, as a sentence.
    """

    def __init__(self, file: str, line: int | None, message: str, fix: str) -> None:
        self.file, self.line, self.message, self.fix = file, line, message, fix
        super().__init__(str(self.problem))

    @property
    def problem(self) -> Problem:
        return Problem(self.file, self.line, self.message, self.fix)


def _inert(text: str, replacement: str) -> str:
    """Keep ``text`` from looking like an expression to the agent, which replaces one variable later."""
    return text.replace("${", replacement)


@dataclass(frozen=True, kw_only=True)
class InternalVariables:
    """What ``${FEDSYS...}`` stands for in one run and for one reporter.

    Attributes:
        run_id: the run's id.
        client_num: number of devices chosen for the run.
        client_id_list: edge ids: all of them for the server, the device's own alone for a client.
        client_index: 0 for the server, 1..n for the clients.
        client_object_list: objects with ``id``, ``os_type`` and whatever else is known of the devices.
        private_local_data: the data path on the device; may be the literal ``PRIVATE_LOCAL_DATA_TOKEN``, which the
            agent replaces.
        synthetic_data_url: empty, or where the client downloads its training data.
        is_using_local_data: 1 if the private data path is used, else 0.
        log_server_url: where log lines are posted.
    """

    run_id: int
    client_num: int
    client_id_list: list[int]
    client_index: int
    client_object_list: list[dict[str, Any]]
    private_local_data: str
    synthetic_data_url: str
    is_using_local_data: int
    log_server_url: str

    def values(self) -> dict[str, Any]:
        """Return the variables by name. URLs and what devices say of themselves hold no ``${`` afterwards."""
        objects = json.loads(_inert(json.dumps(self.client_object_list, ensure_ascii=False), "$_{"))
        return {
            "RUN_ID": self.run_id,
            "CLIENT_NUM": self.client_num,
            "CLIENT_ID_LIST": list(self.client_id_list),
            "CLIENT_INDEX": self.client_index,
            "CLIENT_OBJECT_LIST": objects,
            "PRIVATE_LOCAL_DATA": self.private_local_data,
            "SYNTHETIC_DATA_URL": _inert(self.synthetic_data_url, "%24{"),
            "IS_USING_LOCAL_DATA": self.is_using_local_data,
            "LOG_SERVER_URL": _inert(self.log_server_url, "%24{"),
        }


class Resolved(TypedDict):
    """One entry argument as the package wrote it and as the program gets it."""

    name: str
    raw: Any
    value: str


@dataclass(frozen=True)
class RenderedEntry:
    """The entry command of one reporter in one run.

    Attributes:
        file: the entry file, relative to the package.
        arguments: ``["--name", "value", ...]``, never to be passed through a shell. A value that begins with ``-`` is
            joined to its name (``--name=-0.5``), since argparse would take it for an option.
        config: the rendered ``fedml.yaml``: the four sections with typed values.
        resolved: every argument with its raw and its final value, in order.
    """

    file: str
    arguments: list[str]
    config: dict[str, dict[str, Any]]
    resolved: list[Resolved]


def argument_text(value: Any) -> str:
    """Return a value as the program's argument: text as it is, null empty, everything else as compact JSON.

    So booleans are ``true`` and ``false``, and a list is ``[1,2]``.
    """
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a raw value stands, for errors."""

    file: str
    line: int | None


def _parts(text: str, source: _Source) -> list[tuple[Literal["text", "reference"], str]]:
    """Split a raw text into literal text and the references inside it."""
    parts: list[tuple[Literal["text", "reference"], str]] = []
    position = 0
    while (start := text.find("${", position)) >= 0:
        end = text.find("}", start)
        inner = text.find("${", start + 2)
        if end < 0 or 0 <= inner < end:
            raise ExpressionError(
                source.file,
                source.line,
                f"The expression {_short(text[start:])} is not closed.",
                "Write a } at its end; expressions cannot stand inside each other.",
            )
        if start > position:
            parts.append(("text", text[position:start]))
        parts.append(("reference", text[start + 2 : end].strip()))
        position = end + 1
    if position < len(text):
        parts.append(("text", text[position:]))
    return parts


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


class _Resolver:
    """Resolves rows and arguments of one reporter; every row is resolved once."""

    def __init__(
        self, rows: Mapping[str, tuple[Value, _Source]], removed: set[str], variables: InternalVariables
    ) -> None:
        self._rows = rows
        self._removed = removed
        self._variables = variables.values()
        self._known: dict[str, Any] = {}
        self._open: list[str] = []

    def resolve(self, raw: Any, source: _Source) -> Any:
        """Return ``raw`` with every reference in it replaced."""
        if isinstance(raw, list):
            return [self.resolve(element, source) for element in raw]
        if not isinstance(raw, str):
            return raw
        parts = _parts(raw, source)
        if len(parts) == 1 and parts[0][0] == "reference":
            return self.reference(parts[0][1], source)
        texts = (text if kind == "text" else argument_text(self.reference(text, source)) for kind, text in parts)
        resolved = ""
        for text in texts:
            resolved += text
            if len(resolved) > RESOLVED_MAX:
                raise ExpressionError(
                    source.file,
                    source.line,
                    f"The value grows beyond {RESOLVED_MAX} characters when its expressions are resolved.",
                    "Refer to fewer or shorter values.",
                )
        return resolved

    def reference(self, reference: str, source: _Source) -> Any:
        """Return what ``reference``, the text between ``${`` and ``}``, stands for."""
        variable = _variable_name(reference)
        if variable is not None:
            if variable in self._variables:
                return self._variables[variable]
            raise self._unknown(reference, source)
        if reference not in self._rows:
            raise self._unknown(reference, source)
        if reference in self._known:
            return self._known[reference]
        if reference in self._open:
            raise self._circle(self._open[self._open.index(reference) :])
        value, row_source = self._rows[reference]
        if len(self._open) >= CHAIN_MAX:
            raise ExpressionError(
                row_source.file,
                row_source.line,
                f"More than {CHAIN_MAX} values refer to one another in a row.",
                "Refer to the last value directly.",
            )
        self._open.append(reference)
        try:
            self._known[reference] = self.resolve(value, row_source)
        finally:
            self._open.pop()
        return self._known[reference]

    def _circle(self, members: list[str]) -> ExpressionError:
        """One and the same error for a circle, from wherever it was entered."""
        first = members.index(min(members))
        path = [*members[first:], *members[:first], members[first]]
        source = self._rows[path[0]][1]
        return ExpressionError(
            source.file,
            source.line,
            f"The values refer to each other in a circle: {' -> '.join(path)}.",
            "Give one of them a plain value.",
        )

    def _unknown(self, reference: str, source: _Source) -> ExpressionError:
        """Say what a reference that leads nowhere was probably meant to be."""
        section, _, key = reference.partition(".")
        variables = [f"FEDSYS.{name}" for name in VARIABLES]
        if _variable_name(reference) is not None:
            what = f"There is no internal variable ${{{_short(reference)}}}."
            close = _closest(f"FEDSYS.{_variable_name(reference)}", variables)
            fix = f"The internal variables are {', '.join(VARIABLES)}."
        elif section in SECTIONS and key:
            what = f"{section} has no value named {_short(key)}, to which ${{{_short(reference)}}} refers."
            if reference in self._removed:
                return ExpressionError(source.file, source.line, what, f"Add the value {key} again.")
            keys = {name.partition(".")[2]: name for name in self._rows}
            same_section = {name.partition(".")[2]: name for name in self._rows if name.startswith(f"{section}.")}
            keys.update(same_section)
            match = difflib.get_close_matches(key[:200], keys, n=1, cutoff=0.8)
            close = keys[match[0]] if match else None
            fix = f"Add a value named {_short(key)} to {section}, or refer to another one."
        else:
            what = f"${{{_short(reference)}}} refers to nothing."
            close = _closest(reference, [*self._rows, *variables])
            fix = (
                "Write ${model_config.NAME}, ${hyperparameters_config.NAME} or ${FEDSYS.NAME}."
                " Text that holds ${ cannot be anything else."
            )
        return ExpressionError(source.file, source.line, what, f"Did you mean ${{{close}}}?" if close else fix)


def _closest(reference: str, known: Sequence[str]) -> str | None:
    matches = difflib.get_close_matches(reference[:200], known, n=1, cutoff=0.8)
    return matches[0] if matches else None


def _variable_name(reference: str) -> str | None:
    """Return NAME of ``FEDSYS.NAME`` or ``FEDSYS_NAME``, or None for another reference."""
    for prefix in ("FEDSYS.", "FEDSYS_"):
        if reference.startswith(prefix):
            return reference[len(prefix) :]
    return None


def manifest_file(manifest: Mapping[str, Any]) -> str:
    """Return how errors name a package's ``conf/fedml.yaml``."""
    return f"{manifest.get('kind') or 'the'} package: {manifest['root']}/conf/fedml.yaml"


def _row_source(manifest: Mapping[str, Any], section: str, row: Row) -> _Source:
    """A row that was read from a package has a line there; one from the browser is named by its place."""
    if "line" in row:
        return _Source(manifest_file(manifest), row["line"])
    return _Source(f"{section}.{row['name']}", None)


def render_collect(
    manifest: Mapping[str, Any],
    model_config_rows: Sequence[Row],
    hyperparameter_rows: Sequence[Row],
    variables: InternalVariables,
) -> tuple[RenderedEntry, list[ExpressionError]]:
    """Render as :func:`render_entry` does, and collect every error instead of stopping at the first.

    What could not be resolved stays as it was written.
    """
    sections = dict(zip(SECTIONS, (model_config_rows, hyperparameter_rows), strict=True))
    rows = {
        f"{section}.{row['name']}": (row["value"], _row_source(manifest, section, row))
        for section, section_rows in sections.items()
        for row in section_rows
    }
    offered = {f"{section}.{row['name']}" for section in SECTIONS for row in manifest.get(section, ())}
    resolver = _Resolver(rows, offered - rows.keys(), variables)
    errors: dict[Problem, ExpressionError] = {}

    def attempt(resolve: Callable[[Any, _Source], Any], raw: Any, source: _Source, instead: Any) -> Any:
        try:
            return resolve(raw, source)
        except ExpressionError as error:
            errors.setdefault(error.problem, error)
            return instead

    config: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for reference, (value, source) in rows.items():
        section, _, name = reference.partition(".")
        config[section][name] = attempt(resolver.reference, reference, source, value)
    config["entry_config"] = {"entry_file": manifest["entry_file"]}
    config["entry_arguments"] = {}
    arguments: list[str] = []
    resolved: list[Resolved] = []
    file = manifest_file(manifest)
    for argument in manifest["entry_arguments"]:
        name, raw = argument["name"], argument["value"]
        value = attempt(resolver.resolve, raw, _Source(file, argument.get("line")), raw)
        text = argument_text(value)
        if len(text.encode(errors="replace")) > ARGUMENT_BYTES_MAX:
            error = ExpressionError(
                file,
                argument.get("line"),
                f"The argument --{name} comes to more than {ARGUMENT_BYTES_MAX} bytes, which no program can be given.",
                "Choose fewer devices, or give the program less.",
            )
            errors.setdefault(error.problem, error)
        config["entry_arguments"][name] = value
        resolved.append({"name": name, "raw": raw, "value": text})
        arguments += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
    return RenderedEntry(manifest["entry_file"], arguments, config, resolved), list(errors.values())


def render_entry(
    manifest: Mapping[str, Any],
    model_config_rows: Sequence[Row],
    hyperparameter_rows: Sequence[Row],
    variables: InternalVariables,
) -> RenderedEntry:
    """Make the entry command and the rendered ``fedml.yaml`` of one reporter in one run.

    Args:
        manifest: what was read from the reporter's package (``configurations.manifest``).
        model_config_rows: the run's rows; they win over the package's, and one that is not there is gone.
        hyperparameter_rows: the same for ``hyperparameters_config``.
        variables: the internal variables of this run and this reporter.

    Raises:
        ExpressionError: for the first expression that refers to nothing, is not closed or goes in a circle.
    """
    rendered, errors = render_collect(manifest, model_config_rows, hyperparameter_rows, variables)
    if errors:
        raise errors[0]
    return rendered
