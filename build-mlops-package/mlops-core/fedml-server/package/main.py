"""Bootstrap of a package: runs its entry file with the arguments of this run.

    python main.py --package_name NAME --package_url URL --config CONF/fedml.yaml -- --model lr --comm_round 10 ...

Without `--` the arguments are those of entry_arguments in the configuration file, and without `--config` that file is
conf/fedml.yaml beside this one; both must be rendered, as nothing is replaced here. The entry file runs in its own
folder, as an argument list and never through a shell, with this folder on PYTHONPATH so that `import roundtable` works.
Its exit code is passed on, and SIGTERM and SIGINT are passed to it.

Needs the standard library alone. Exit code 2: this file could not find out what to run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent


class BootstrapError(Exception):
    """What the package or its configuration lacks; the message says what to do."""


def main(argv: Sequence[str]) -> int:
    """Runs the entry file and returns its exit code (128 + n when signal n ended it)."""
    own, arguments = split_arguments(argv)
    options = parse_options(own)
    try:
        wanted = ("entry_config", "entry_arguments") if arguments is None else ("entry_config",)
        config = read_config(options.config, wanted)
        entry = find_entry(config)
        if arguments is None:
            arguments = render_arguments(config)
    except BootstrapError as error:
        print(f"main.py: {error}", file=sys.stderr)
        return 2
    print(f"main.py: {options.package_name or 'package'} runs {entry.relative_to(PACKAGE)}", flush=True)
    return run([sys.executable, str(entry), *arguments], entry.parent)


def split_arguments(argv: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Parts this file's own arguments from the entry file's, which follow the first `--`; None without one."""
    if "--" not in argv:
        return list(argv), None
    place = argv.index("--")
    return list(argv[:place]), list(argv[place + 1 :])


def parse_options(argv: Sequence[str]) -> argparse.Namespace:
    """Reads this file's own arguments."""
    parser = argparse.ArgumentParser(prog="main.py", description="Runs the entry file of this package.")
    parser.add_argument("--package_name", default="", help="shown in the log")
    parser.add_argument("--package_url", default="", help="where the package came from; not read")
    parser.add_argument("--config", type=Path, default=PACKAGE / "conf" / "fedml.yaml", help="the rendered fedml.yaml")
    return parser.parse_args(argv)


def read_config(path: Path, sections: Sequence[str]) -> dict[str, Any]:
    """Reads fedml.yaml: with PyYAML where it is installed, else these sections of it by `read_plain_yaml`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BootstrapError(f"{path} cannot be read: {error}") from error
    try:
        import yaml
    except ImportError:
        config = read_plain_yaml(text, str(path), sections)
    else:
        try:
            config = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BootstrapError(f"{path} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise BootstrapError(f"{path} must be a mapping with entry_config and entry_arguments")
    return config


def read_plain_yaml(text: str, name: str, sections: Sequence[str]) -> dict[str, Any]:
    """Reads some sections of a file that is JSON, or YAML whose sections consist of `key: scalar` lines.

    All YAML scalars are text. Raises BootstrapError with the line for what it does not understand.
    """
    if text.lstrip().startswith("{"):
        try:
            return dict(json.loads(text))
        except ValueError as error:
            raise BootstrapError(f"{name} is not JSON: {error}") from error
    config: dict[str, dict[str, Any]] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#") or line.startswith("---"):
            continue
        match = re.fullmatch(r"( *)([\w.-]+|\"[^\"]+\"|'[^']+'):(?: +(.*?))? *", line)
        if match is not None and not match[1]:
            section = match[2].strip("\"'")
            if section in sections and match[3] and not match[3].startswith("#"):
                raise BootstrapError(f"{name}, line {number}: write {section} as lines of `key: value`")
            config[section] = {}
        elif section in sections or not section or not line.startswith(" "):
            if match is None:
                raise BootstrapError(f"{name}, line {number}: install PyYAML to read this, or write `key: value`")
            config[section][match[2].strip("\"'")] = _plain_scalar(match[3] or "", name, number)
    return config


def _plain_scalar(raw: str, name: str, number: int) -> Any:
    """One value without its comment."""
    if raw[:1] in ("'", '"'):
        match = re.fullmatch(r"""('(?:[^']|'')*'|"(?:[^"\\]|\\.)*")(?: +#.*)?""", raw)
        if match is None:
            raise BootstrapError(f"{name}, line {number}: the quotes do not match")
        quoted = match[1]
        return json.loads(quoted) if quoted[0] == '"' else quoted[1:-1].replace("''", "'")
    plain = re.sub(r"(^| +)#.*", "", raw).strip()
    if plain[:1] in ("|", ">", "&", "*", "!", "{", "["):
        try:
            return json.loads(plain)
        except ValueError:
            raise BootstrapError(f"{name}, line {number}: install PyYAML to read {plain[:40]!r}") from None
    return plain


def find_entry(config: dict[str, Any]) -> Path:
    """The entry file, which must lie in this package."""
    section = config.get("entry_config")
    name = section.get("entry_file") if isinstance(section, dict) else None
    if not isinstance(name, str) or not name:
        raise BootstrapError("entry_config.entry_file is missing in the configuration")
    entry = (PACKAGE / name).resolve()
    if not entry.is_relative_to(PACKAGE):
        raise BootstrapError(f"the entry file {name} lies outside the package")
    if not entry.is_file():
        raise BootstrapError(f"the package has no entry file {name}")
    return entry


def render_arguments(config: dict[str, Any]) -> list[str]:
    """`--key value` for every entry of entry_arguments. Booleans are true and false, nothing is the empty text."""
    section = config.get("entry_arguments") or {}
    if not isinstance(section, dict):
        raise BootstrapError("entry_arguments must be a mapping")
    arguments: list[str] = []
    for key, value in section.items():
        text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
        if "${" in text:
            raise BootstrapError(f"entry_arguments.{key} is not rendered: {text}")
        arguments += [f"--{key}={text}"] if text.startswith("-") else [f"--{key}", text]
    return arguments


def run(command: Sequence[str], folder: Path) -> int:
    """Runs the command in the folder, passes signals on, and returns its exit code."""
    paths = [str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    child: subprocess.Popen[bytes] | None = None
    received: list[int] = []

    def pass_on(signum: int, frame: object) -> None:
        received.append(signum)
        if child is not None:
            child.send_signal(signum)

    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, pass_on)
    child = subprocess.Popen(command, cwd=folder, env=environment)  # noqa: S603 - the package is what is to be run
    for early in list(received):  # what came before there was a child
        child.send_signal(early)
    code = child.wait()
    return 128 - code if code < 0 else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
