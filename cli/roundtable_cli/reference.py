"""``python -m roundtable_cli.reference``: the commands as Markdown, for ``docs/cli.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from roundtable_cli.main import app

MARK = "<!-- From here on written by `python -m roundtable_cli.reference`. -->"


def reference_text() -> str:
    """Return every command with its arguments and options."""
    lines = [MARK]
    for name, command in _commands("roundtable", typer.main.get_command(app)):
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        usage = " ".join([name, *(_argument(each) for each in arguments)])
        lines += ["", f"### `{usage}`", "", " ".join((command.help or "").split()), ""]
        for each in command.params:
            if each.param_type_name == "option" and each.name != "help":
                spelt = ", ".join(f"`{spelling}`" for spelling in [*each.opts, *each.secondary_opts])
                required = " (required)" if each.required else ""
                lines.append(f"- {spelt}{required}: {each.help or each.name}")
        while not lines[-1]:
            lines.pop()
    return "\n".join(lines) + "\n"


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for each, below in command.commands.items():
            yield from _commands(f"{name} {each}", below)
    else:
        yield name, command


def _argument(argument: Any) -> str:
    text = str(argument.name).upper().replace("_", "-")
    return text if argument.required else f"[{text}]"


if __name__ == "__main__":
    sys.stdout.write(reference_text())
