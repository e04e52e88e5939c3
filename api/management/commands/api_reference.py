"""``manage.py api_reference``: write the reference of the API, from its schema, into ``docs/api.md``."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from api.application import api
from api.reference import reference_sections
from api.scopes import Scope

MARK = "<!-- From here on written by `manage.py api_reference`. -->"


def reference_text() -> str:
    """Return the generated part of ``docs/api.md``."""
    lines = [MARK, "", "## Scopes", "", "| scope | lets a token |", "|---|---|"]
    lines += [f"| `{scope.value}` | {scope.meaning} |" for scope in Scope]
    for section in reference_sections(api.get_openapi_schema()):
        lines += ["", f"## {section.name.capitalize()}", "", "| call | scope | does | takes | answers |"]
        lines += ["|---|---|---|---|---|"]
        for each in section.operations:
            taken = [f"`{field.name}`" for field in each.parameters if field.place != "path"]
            if each.body_type:
                fields = [f"`{field.name}`{'' if field.required else '?'}" for field in each.body]
                taken.append(f"body {each.body_type}" + (f": {', '.join(fields)}" if fields else ""))
            path = each.path.removeprefix("/api/v1")
            answer = f"{each.status} {each.answer_type}".strip()
            does = f"{each.summary}. {each.description}".replace("\n", " ").replace("|", "\\|").strip()
            lines.append(f"| `{each.method} {path}` | {each.scope} | {does} | {'; '.join(taken)} | {answer} |")
    return "\n".join(lines) + "\n"


class Command(BaseCommand):
    """Renew the reference in the documentation."""

    help = "Write the reference of the Web API into docs/api.md."

    def handle(self, *args: Any, **options: Any) -> None:
        """Keep what stands before the mark, and write what comes after it."""
        path = settings.BASE_DIR / "docs" / "api.md"
        before = path.read_text(encoding="utf-8").partition(MARK)[0]
        path.write_text(before + reference_text(), encoding="utf-8")
        self.stdout.write(f"{path} is written.")
