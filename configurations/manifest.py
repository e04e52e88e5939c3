"""What is read from a package when it comes in: rows, entry file, arguments, requirements, sizes."""

from __future__ import annotations

import difflib
import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import TypedDict

from django.conf import settings

from configurations.archive import Archive, ArchiveRefused, archive_open, package_root
from configurations.expressions import InternalVariables, render_collect
from configurations.fedml_yaml import BYTES_MAX, FedmlYaml, fedml_yaml_read
from configurations.problems import Problem, Refused
from configurations.rows import Row, Value

REQUIREMENTS_BYTES_MAX = 256 * 1024
REQUIREMENTS_LINES_MAX = 1_000
_COMMENT = re.compile(r"(^|\s+)#.*$")


class ManifestArgument(TypedDict):
    """One entry argument as written: the value may hold expressions."""

    name: str
    value: Value
    line: int


class Manifest(TypedDict):
    """Stored in ``Package.manifest``. ``root`` is the archive's top folder; everything else is relative to it."""

    kind: str
    root: str
    entry_file: str
    model_config: list[Row]
    hyperparameters_config: list[Row]
    entry_arguments: list[ManifestArgument]
    has_main: bool
    requirements: list[str]
    requirements_sha256: str
    files: int
    unpacked_bytes: int
    warnings: list[dict[str, str | int | None]]


def example_variables(kind: str, *, private_data_path: str = "", synthetic_data_url: str = "") -> InternalVariables:
    """Return internal variables of an imagined run 1 on the devices 1 to 4: for checks, and to show what comes out.

    Args:
        kind: ``server``, or ``client`` for the first of the devices.
        private_data_path: the configuration's; the devices have it below their data folder.
        synthetic_data_url: where the run's clients would download their data, or empty.
    """
    devices = [1, 2, 3, 4]
    is_server = kind == "server"
    return InternalVariables(
        run_id=1,
        client_num=len(devices),
        client_id_list=devices if is_server else devices[:1],
        client_index=0 if is_server else 1,
        client_object_list=[{"id": edge_id, "os_type": "Linux"} for edge_id in devices],
        private_local_data=f"/data-folder/{private_data_path}" if private_data_path and not is_server else "",
        synthetic_data_url=synthetic_data_url,
        is_using_local_data=1 if private_data_path else 0,
        log_server_url=f"{settings.PUBLIC_URL}/api/runs/1/logs",
    )


def manifest_read(zip_path: Path, kind: str) -> Manifest:
    """Read and check a whole package.

    Every member is inflated once, so that what is stored later is known to unpack.

    Args:
        zip_path: the package on the local disk.
        kind: ``server`` or ``client``.

    Raises:
        Refused: with every problem that was found.
    """
    try:
        with archive_open(zip_path) as archive:
            return _manifest_of(archive, kind)
    except ArchiveRefused as error:
        raise Refused([Problem("package.zip", None, error.message, error.fix)]) from None


def _manifest_of(archive: Archive, kind: str) -> Manifest:
    root = package_root(archive)
    archive.verify()
    unpacked_bytes = archive.unpacked_bytes
    config_name = f"{root}/conf/fedml.yaml"
    if config_name not in archive.files:
        raise ArchiveRefused(
            f"The package holds no {config_name}.",
            "Build it with build.sh, or add conf/fedml.yaml beside your sources.",
        )
    config = fedml_yaml_read(archive.read(config_name, BYTES_MAX), config_name)
    requirements, requirements_sha256, requirements_problem = _requirements(archive, f"{root}/requirements.txt")
    problems = [*config.problems, *_entry_problems(archive, root, config), *requirements_problem]
    manifest: Manifest = {
        "kind": kind,
        "root": root,
        "entry_file": config.entry_file,
        "model_config": config.model_config,
        "hyperparameters_config": config.hyperparameters_config,
        "entry_arguments": [
            {"name": argument.name, "value": argument.value, "line": argument.line}
            for argument in config.entry_arguments
        ],
        "has_main": f"{root}/main.py" in archive.files,
        "requirements": requirements,
        "requirements_sha256": requirements_sha256,
        "files": len(archive.files),
        "unpacked_bytes": unpacked_bytes,
        "warnings": [warning.as_dict() for warning in config.warnings],
    }
    _, errors = render_collect(manifest, config.model_config, config.hyperparameters_config, example_variables(kind))
    problems += [Problem(config_name, error.line, error.message, error.fix) for error in errors]
    if problems:
        raise Refused(sorted(problems, key=lambda problem: (problem.file, problem.line or 0)))
    return manifest


def _entry_problems(archive: Archive, root: str, config: FedmlYaml) -> list[Problem]:
    """Say what is wrong with the entry file's path; a missing one was reported by the reader."""
    entry_file = config.entry_file
    if not entry_file:
        return []
    file, line = f"{root}/conf/fedml.yaml", config.entry_file_line
    path = PurePosixPath(entry_file)
    if path.is_absolute() or ".." in path.parts or "\\" in entry_file or str(path) != entry_file:
        return [
            Problem(
                file,
                line,
                f"The entry file {entry_file[:200]!r} is not a plain relative path.",
                "Write its path below the package's folder, such as fedml/main.py.",
            )
        ]
    if f"{root}/{entry_file}" in archive.files:
        return []
    scripts = [name[len(root) + 1 :] for name in archive.files if name.endswith(".py")]
    same_name = [name for name in scripts if PurePosixPath(name).name == path.name]
    close = same_name[:1] or difflib.get_close_matches(entry_file, scripts[:2000], n=1)
    fix = f"Did you mean {close[0]}?" if close else "Put the file into the package, or correct the path."
    return [Problem(file, line, f"The entry file {entry_file[:200]} is not in the package.", fix)]


def _requirements(archive: Archive, name: str) -> tuple[list[str], str, list[Problem]]:
    """Return the lines of ``requirements.txt`` without comments, the digest of its bytes, and what is wrong with it."""
    if name not in archive.files:
        return [], "", []
    data = archive.read(name, REQUIREMENTS_BYTES_MAX)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return [], "", [Problem(name, None, "The file is not valid UTF-8.", "Save it as UTF-8.")]
    lines = [_COMMENT.sub("", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    if "\0" in text or len(lines) > REQUIREMENTS_LINES_MAX:
        return (
            [],
            "",
            [
                Problem(
                    name,
                    None,
                    f"The file holds NUL characters or more than {REQUIREMENTS_LINES_MAX} requirements.",
                    "Write one requirement a line.",
                )
            ],
        )
    return lines, hashlib.sha256(data).hexdigest(), []
