"""A configuration before it is saved: what is wrong with it, where its packages differ, what its commands would be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from configurations.expressions import ExpressionError, RenderedEntry, argument_text, render_collect
from configurations.manifest import example_variables
from configurations.models import Configuration, Package, PackageKind
from configurations.problems import Problem
from configurations.rows import SECTIONS, Row, Value, rows_problems

NAME_MAX = 120
PATH_MAX = 500
URL_MAX = 1000
EXAMPLE_DATA_URL = "/api/runs/1/data"


@dataclass(frozen=True)
class UploadedData:
    """Synthetic data in the store."""

    name: str
    sha256: str
    size: int


@dataclass
class ConfigurationDraft:
    """The values of a configuration that may be saved or not. ``project`` is a ``runs.Project`` or None."""

    name: str
    server_package: Package
    client_package: Package
    model_config: list[Row] = field(default_factory=list)
    hyperparameters_config: list[Row] = field(default_factory=list)
    private_data_path: str = ""
    synthetic_data_url: str = ""
    synthetic_data: UploadedData | None = None
    project: Any = None

    @classmethod
    def of(cls, configuration: Configuration) -> ConfigurationDraft:
        """Return the draft that an existing configuration would be saved from."""
        data = None
        if configuration.synthetic_data_sha256:
            data = UploadedData(
                configuration.synthetic_data_name,
                configuration.synthetic_data_sha256,
                configuration.synthetic_data_size,
            )
        return cls(
            name=configuration.name,
            server_package=configuration.server_package,
            client_package=configuration.client_package,
            model_config=list(configuration.model_config),
            hyperparameters_config=list(configuration.hyperparameters_config),
            private_data_path=configuration.private_data_path,
            synthetic_data_url=configuration.synthetic_data_url,
            synthetic_data=data,
            project=configuration.project,
        )

    def problems(self) -> list[Problem]:
        """Return everything that has to be put right before the configuration can be saved."""
        problems = []
        if not self.name.strip() or len(self.name) > NAME_MAX:
            problems.append(
                Problem("name", None, "The configuration has no usable name.", f"Type 1 to {NAME_MAX} characters.")
            )
        if message := private_path_problem(self.private_data_path):
            problems.append(Problem("private_data_path", None, message, "Type a path below the devices' data folder."))
        if self.synthetic_data_url and self.synthetic_data is not None:
            problems.append(
                Problem(
                    "synthetic_data_url",
                    None,
                    "Synthetic data have both a URL and an uploaded file.",
                    "Clear the URL or remove the file.",
                )
            )
        if message := data_url_problem(self.synthetic_data_url):
            problems.append(Problem("synthetic_data_url", None, message, "Type one such as https://host/digits.npz."))
        for section in SECTIONS:
            problems += rows_problems(section, getattr(self, section))
        if not problems:
            for preview in self.previews():
                problems += [error.problem for error in preview.errors if error.problem not in problems]
        return problems

    def previews(self) -> list[EntryPreview]:
        """Return what the server and the first client would be started with in an imagined run."""
        return [
            entry_preview(
                package.manifest,
                self.model_config,
                self.hyperparameters_config,
                private_data_path=self.private_data_path,
                synthetic_data_url=EXAMPLE_DATA_URL if self.synthetic_data else self.synthetic_data_url,
            )
            for package in (self.server_package, self.client_package)
        ]


def private_path_problem(path: str) -> str | None:
    """Say why ``path`` cannot be a path below a device's data folder, or return None."""
    if not path:
        return None
    if len(path) > PATH_MAX:
        return f"The private data path is longer than {PATH_MAX} characters."
    if not path.isprintable() or "\\" in path or "$" in path:
        return "The private data path holds a backslash, a $ or a character that cannot be printed."
    if path.startswith(("/", "~")) or re.match(r"[A-Za-z]:", path):
        return "The private data path is absolute."
    if ".." in PurePosixPath(path).parts:
        return "The private data path leads out of the devices' data folder through '..'."
    return None


def data_url_problem(url: str) -> str | None:
    """Say why ``url`` cannot be where clients download data, or return None."""
    if not url:
        return None
    if len(url) > URL_MAX:
        return f"The URL is longer than {URL_MAX} characters."
    if not re.fullmatch(r"https?://[^\s/$?#]+[^\s$]*", url) or not url.isprintable():
        return "The URL of the synthetic data is not an http or https URL, or holds a $ or a space."
    return None


@dataclass(frozen=True)
class EntryPreview:
    """What one of the packages would be started with. ``errors`` are the expressions that cannot be resolved."""

    kind: PackageKind
    rendered: RenderedEntry
    errors: list[ExpressionError]


@dataclass
class ArgumentShown:
    """One entry argument with what each package writes (``raw``) and what it comes to (``values``), by kind."""

    name: str
    raw: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)

    @property
    def raw_shown(self) -> list[str]:
        """What the packages write where that holds an expression; one entry where both write the same."""
        return [raw for raw in dict.fromkeys(self.raw.values()) if "${" in raw]


def arguments_shown(previews: Sequence[EntryPreview]) -> list[ArgumentShown]:
    """Return the arguments of both packages beside each other, in the order of the server's."""
    shown: dict[str, ArgumentShown] = {}
    for preview in previews:
        for resolved in preview.rendered.resolved:
            argument = shown.setdefault(resolved["name"], ArgumentShown(resolved["name"]))
            argument.raw[preview.kind.value] = argument_text(resolved["raw"])
            argument.values[preview.kind.value] = resolved["value"]
    return list(shown.values())


def entry_preview(
    manifest: Mapping[str, Any],
    model_config: Sequence[Row],
    hyperparameters_config: Sequence[Row],
    *,
    private_data_path: str = "",
    synthetic_data_url: str = "",
) -> EntryPreview:
    """Render one package's entry with the internal variables of an imagined run."""
    variables = example_variables(
        manifest["kind"], private_data_path=private_data_path, synthetic_data_url=synthetic_data_url
    )
    rendered, errors = render_collect(manifest, model_config, hyperparameters_config, variables)
    return EntryPreview(PackageKind(manifest["kind"]), rendered, errors)


def package_rows(manifest: Mapping[str, Any] | None, section: str) -> dict[str, Row]:
    """Return the rows of one section of a package by name; none without a package."""
    return {row["name"]: row for row in manifest[section]} if manifest else {}


def same_value(first: Value, second: Value) -> bool:
    """Whether two values are one and the same, type included: ``1``, ``1.0``, ``True`` and ``"1"`` all differ."""
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same_value, first, second))
    return type(first) is type(second) and first == second


def rows_autofill(
    section: str,
    current: Sequence[Row],
    *,
    server: Mapping[str, Any] | None,
    client: Mapping[str, Any] | None,
    before: Mapping[str, Any] | None,
) -> list[Row]:
    """Return the rows of a section after a package came in.

    The rows are the server package's, then those that the client package alone has. What a person typed is kept: a
    value that is not the one that was filled in, and a row that was added by hand.

    Args:
        section: ``model_config`` or ``hyperparameters_config``.
        current: the rows as they stand in the form.
        server, client: the manifests of the packages that are there now.
        before: the manifest from which the current rows were filled in: that of the package that the new one takes the
            place of, or else that of the other package.
    """
    offered = {**package_rows(client, section), **package_rows(server, section)}
    order = [*package_rows(server, section), *(name for name in offered if name not in package_rows(server, section))]
    filled_in = package_rows(before, section)
    kept = {}
    for row in current:
        old = filled_in.get(row["name"])
        typed_by_hand = old is None or not same_value(old["value"], row["value"])
        if typed_by_hand:
            kept[row["name"]] = row
    rows = [kept.pop(name) if name in kept else _without_line(offered[name]) for name in order]
    return rows + list(kept.values())


def _without_line(row: Row) -> Row:
    return {"name": row["name"], "type": row["type"], "value": row["value"]}
