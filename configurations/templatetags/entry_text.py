"""Template filters of the configuration pages."""

import shlex
from typing import Any

from django import template

from configurations.expressions import RenderedEntry

register = template.Library()


@register.filter
def is_expression(raw: Any) -> bool:
    """Whether an argument's raw value holds an expression."""
    return "${" in str(raw)


@register.filter
def command_line(rendered: RenderedEntry) -> str:
    """The entry command as a person would type it. Instances are started with the list itself, never through a shell."""
    return shlex.join(["python", rendered.file, *rendered.arguments])
