"""Template filters of the configuration pages."""

import shlex

from django import template

from configurations.draft import ArgumentShown, EntryPreview
from configurations.expressions import RenderedEntry

register = template.Library()


@register.filter
def by_kind(argument: ArgumentShown, previews: list[EntryPreview]) -> list[tuple[str, str | None]]:
    """What an argument comes to in each of the packages that are shown; None where a package does not have it."""
    return [(preview.kind.value, argument.values.get(preview.kind.value)) for preview in previews]


@register.filter
def command_line(rendered: RenderedEntry) -> str:
    """The entry command as a person would type it. Instances get the list itself, never through a shell."""
    return shlex.join(["python", rendered.file, *rendered.arguments])
