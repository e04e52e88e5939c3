"""Builds the server and the client package of a federated-learning run.

    ./build.sh                                    packs the reference library
    ./build.sh --source DIR --entry FILE          packs your own code instead

A package is a zip with the top folder `package/`: conf/fedml.yaml, main.py (bootstrap), roundtable.py (reporting SDK),
requirements.txt and the source tree under fedml/. The same input gives the same bytes: entries are sorted, have fixed
times and modes, and are stored without compression, whose bytes differ between versions of zlib.

Runs on the standard library alone; where PyYAML can be imported, fedml.yaml is checked as a whole, else its entry file.
Exit code 2 and one sentence on the standard error tell what is wrong with the input.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
SDK = HERE.parent / "edge" / "sdk" / "roundtable.py"
KINDS = ("server", "client")
SECTIONS = ("model_config", "hyperparameters_config", "entry_config", "entry_arguments")
INTERNAL_VARIABLES = (
    "RUN_ID", "CLIENT_NUM", "CLIENT_ID_LIST", "CLIENT_INDEX", "CLIENT_OBJECT_LIST", "PRIVATE_LOCAL_DATA",
    "SYNTHETIC_DATA_URL", "IS_USING_LOCAL_DATA", "LOG_SERVER_URL",
)  # fmt: skip
LEFT_OUT = {
    "__pycache__", ".git", ".hg", ".svn", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints",
    ".DS_Store",
}  # fmt: skip
EARLIEST_TIME = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold
SDK_REQUIREMENT = "paho-mqtt==2.2.0  # the reporting SDK, roundtable.py\n"


class BuildError(Exception):
    """What is wrong with the input, and what to do about it."""


def main(argv: Sequence[str]) -> int:
    """Builds both packages and returns the exit code."""
    options = parse_options(argv)
    try:
        for kind in KINDS:
            build(kind, options)
    except BuildError as error:
        print(f"build.sh: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"build.sh: {error.filename or 'the build'}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; ends the process with code 2 for a wrong one."""
    parser = argparse.ArgumentParser(
        prog="build.sh", description="Builds dist-package/server/package.zip and dist-package/client/package.zip."
    )
    parser.add_argument("--source", type=Path, metavar="DIR", help="your own code, in place of the reference library")
    parser.add_argument("--entry", type=Path, metavar="FILE", help="with --source: the program, inside of DIR")
    parser.add_argument(
        "--requirements", type=Path, metavar="FILE", help="what to install; default: that of the source"
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="fedml.yaml of both packages; default: those of mlops-core/"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", default=HERE / "dist-package", help="where to write")
    options = parser.parse_args(argv)
    if (options.source is None) != (options.entry is None):
        parser.error("--source and --entry go together: --entry names the program inside of --source")
    return options


def build(kind: str, options: argparse.Namespace) -> None:
    """Builds one package: its files, then the checks, then the zip. Raises BuildError or OSError."""
    core = HERE / "mlops-core" / f"fedml-{kind}" / "package"
    source = HERE / "fedml" if options.source is None else options.source
    if not source.is_dir():
        raise BuildError(f"the source {source} does not exist or is no folder")
    config_path = options.config or core / "conf" / "fedml.yaml"
    config_text = read_text(config_path)
    if options.entry is not None:
        entry = entry_inside(source, options.entry)
        config_text = replace_entry(config_text, f"fedml/{entry.as_posix()}", config_path)

    output = options.output / kind / "package.zip"
    files = {f"fedml/{name}": path.read_bytes() for name, path in source_files(source, options.output)}
    files["conf/fedml.yaml"] = config_text.encode()
    files["main.py"] = (core / "main.py").read_bytes()
    files["roundtable.py"] = SDK.read_bytes()
    files["requirements.txt"] = requirements(core, options, report=kind == KINDS[0])
    check_config(config_text, config_path, files.keys(), core / "main.py", report=kind == KINDS[0])

    content_digest = write_zip(output, files)
    size = output.stat().st_size
    print(f"{kind}: {output} ({len(files)} files, {size:,} bytes, sha256 {content_digest})")


def read_text(path: Path) -> str:
    """Reads UTF-8 text. Raises BuildError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BuildError(f"{path} is not UTF-8 text: {error}") from error


def entry_inside(source: Path, entry: Path) -> Path:
    """The entry file relative to the source; `entry` may be given from there or from the current folder."""
    root = source.resolve()
    candidates = [(source / entry).resolve(), entry.resolve()]
    for candidate in candidates:
        if candidate.is_file() and candidate.is_relative_to(root):
            return candidate.relative_to(root)
    if any(candidate.is_file() for candidate in candidates):
        raise BuildError(f"the entry file {entry} lies outside the source {source}: only the source is packed")
    raise BuildError(f"the source {source} has no entry file {entry}")


def replace_entry(text: str, entry: str, path: Path) -> str:
    """Puts another entry file into the text of a fedml.yaml and leaves everything else, comments included."""
    pattern = re.compile(r"""^( +["']?entry_file["']?:)[^\n]*$""", re.MULTILINE)
    if len(pattern.findall(text)) != 1:
        raise BuildError(f"{path} must have one line `entry_file:` under entry_config, for --entry to replace")
    quoted = "'" + entry.replace("'", "''") + "'" if re.search(r"[^\w./-]", entry) else entry
    return pattern.sub(lambda match: f"{match[1]} {quoted}", text)


def source_files(source: Path, output: Path) -> Iterator[tuple[str, Path]]:
    """Yields (name in the package, path) of the source's files, without what LEFT_OUT names and without the output.

    Links inside of the source are followed; those that leave it are left out with a note on the standard error.
    """
    root, built = source.resolve(), output.resolve()

    def walk(folder: Path, prefix: str, above: frozenset[Path]) -> Iterator[tuple[str, Path]]:
        for path in sorted(folder.iterdir(), key=lambda path: path.name):
            name = prefix + path.name
            if path.name in LEFT_OUT or path.suffix in (".pyc", ".pyo"):
                continue
            try:
                target = path.resolve(strict=True)
            except (OSError, RuntimeError):
                note(f"left out {name}: a broken link")
                continue
            if not target.is_relative_to(root):
                note(f"left out {name}: it links to {target}, outside the source")
            elif target.is_dir() and target in above:
                note(f"left out {name}: it links to a folder above itself")
            elif target.is_dir():
                if target != built:
                    yield from walk(path, f"{name}/", above | {target})
            elif stat.S_ISREG(target.stat().st_mode):
                check_name(name)
                yield name, path
            else:
                note(f"left out {name}: not a regular file")

    yield from walk(source, "", frozenset({root}))


def check_name(name: str) -> None:
    """Raises BuildError for a name that not every system can unpack."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BuildError(f"the file name {name!r} is not UTF-8: rename it") from None
    if re.search(r'[\\\x00-\x1f\x7f:*?"<>|]', name):
        raise BuildError(f"the file name {name!r} holds a character that not every system allows: rename it")


def requirements(core: Path, options: argparse.Namespace, *, report: bool) -> bytes:
    """The package's requirements.txt: as given, else the source's own, else what the SDK needs."""
    if options.source is None and options.requirements is None:
        return (core / "requirements.txt").read_bytes()
    path = options.requirements or options.source / "requirements.txt"
    if options.requirements is None and not path.is_file():
        return SDK_REQUIREMENT.encode()
    text = read_text(path)
    if report and not re.search(r"^paho[-_.]mqtt\b", text, re.IGNORECASE | re.MULTILINE):
        note(f"{path} lacks paho-mqtt: `import roundtable` will work, but nothing will be reported without it")
    return text.encode()


def check_config(text: str, path: Path, files: Any, bootstrap: Path, *, report: bool) -> None:
    """Checks what can be known before the upload. Raises BuildError with file, line and what to do."""
    try:
        import yaml
    except ImportError:
        if report:
            note("PyYAML is not installed: of fedml.yaml only the entry file is checked")
        config = read_without_yaml(text, path, bootstrap)
    else:
        try:
            config = yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            raise BuildError(f"{path}{line}: {error.problem or error.context}") from error
        except yaml.YAMLError as error:
            raise BuildError(f"{path}: {error}") from error
        check_sections(config, path)
        check_expressions(text, config, path)
    section = config.get("entry_config")
    entry = section.get("entry_file") if isinstance(section, dict) else None
    if not isinstance(entry, str) or not entry:
        raise BuildError(f"{path}: entry_config.entry_file must name the program, such as fedml/main.py")
    if os.path.normpath(entry) not in files:
        raise BuildError(f"{path}, line {line_of(text, 'entry_file:')}: the package has no entry file {entry}")


def read_without_yaml(text: str, path: Path, bootstrap: Path) -> dict[str, Any]:
    """Reads fedml.yaml as the bootstrap does on a device without PyYAML."""
    module = load_module(bootstrap)
    try:
        config: dict[str, Any] = module.read_plain_yaml(text, str(path), ["entry_config"])
    except module.BootstrapError as error:
        raise BuildError(str(error)) from error
    return config


def load_module(path: Path) -> ModuleType:
    """Imports a file by its path, leaving no bytecode behind."""
    spec = importlib.util.spec_from_file_location("package_bootstrap", path)
    if spec is None or spec.loader is None:
        raise BuildError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def check_sections(config: Any, path: Path) -> None:
    """Raises BuildError unless the file has the four sections, each a mapping."""
    if not isinstance(config, dict):
        raise BuildError(f"{path} must hold the sections {', '.join(SECTIONS)}")
    for section in SECTIONS:
        if not isinstance(config.get(section), dict):
            raise BuildError(f"{path}: the section {section} is missing or holds no `key: value` lines")


def check_expressions(text: str, config: dict[str, Any], path: Path) -> None:
    """Raises BuildError for a `${...}` in entry_arguments that refers to nothing."""
    for argument, value in config["entry_arguments"].items():
        for expression in re.findall(r"\$\{([^}]*)\}", str(value)):
            section, _, key = expression.partition(".")
            internal = re.fullmatch(r"FEDSYS[._](\w+)", expression)
            if internal and internal[1] in INTERNAL_VARIABLES:
                continue
            if section in SECTIONS[:2] and key in config[section]:
                continue
            place = f"{path}, line {line_of(text, '${' + expression + '}')}"
            known = "one of " + ", ".join(INTERNAL_VARIABLES) if internal else "a key of " + " or ".join(SECTIONS[:2])
            raise BuildError(f"{place}: {argument} refers to ${{{expression}}}, which is not {known}")


def line_of(text: str, part: str) -> int:
    """The number of the first line with this part that is not a comment."""
    for number, line in enumerate(text.splitlines(), start=1):
        if part in line and not line.lstrip().startswith("#"):
            return number
    return 1


def write_zip(output: Path, files: dict[str, bytes]) -> str:
    """Writes the package, whole or not at all, and returns its sha256."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=output.parent, prefix=".package-", delete=False) as temporary:
        try:
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
                for name in sorted(files):
                    info = zipfile.ZipInfo(f"package/{name}", EARLIEST_TIME)
                    info.create_system = 3  # Unix, so that the mode counts
                    info.external_attr = (stat.S_IFREG | 0o644) << 16
                    archive.writestr(info, files[name])
            temporary.flush()
            Path(temporary.name).chmod(0o644)
            Path(temporary.name).replace(output)
        except BaseException:
            Path(temporary.name).unlink(missing_ok=True)
            raise
    return hashlib.sha256(output.read_bytes()).hexdigest()


def note(sentence: str) -> None:
    """Tells what the user may not expect."""
    print(f"build.sh: note: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
