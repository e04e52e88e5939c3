"""docs/cli.md has every command as it is."""

from __future__ import annotations

from roundtable_cli.reference import MARK, reference_text

from deploy.local.stack import REPOSITORY


def test_the_documentation_has_every_command_as_it_is() -> None:
    text = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    assert MARK + text.partition(MARK)[2] == reference_text(), "Renew it: see roundtable_cli/reference.py"
