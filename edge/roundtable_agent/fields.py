"""Reads objects that others wrote (commands, specs, answers), with a sentence for whatever is wrong with them."""

import math
import re
from typing import Any

MAX_DEPTH = 24
MAX_NODES = 20_000


class Invalid(ValueError):
    """A value does not have the agreed form; the message says which and what was expected."""


class Fields:
    """One JSON object, read field by field.

    Parameters:
        value: what should be an object.
        name: what to call it in messages.

    Raises:
        Invalid: from every method, naming the field.
    """

    def __init__(self, value: Any, name: str) -> None:
        if not isinstance(value, dict):
            raise Invalid(f"{name} must be an object")
        self._value = value
        self._name = name

    def __contains__(self, field: str) -> bool:
        return self._value.get(field) is not None

    def text(self, field: str, *, most: int, pattern: str = "", default: str | None = None) -> str:
        """A string of at most `most` characters that fully matches `pattern`, where one is given."""
        value = self._value.get(field)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise Invalid(f"{self._name}.{field} must be a string")
        return check_text(value, f"{self._name}.{field}", most=most, pattern=pattern)

    def integer(self, field: str, *, low: int, high: int, default: int | None = None) -> int:
        """A whole number from `low` to `high`."""
        value = self._value.get(field)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Invalid(f"{self._name}.{field} must be a whole number from {low} to {high}")
        return value

    def number(self, field: str, *, low: float, high: float, default: float | None = None) -> float:
        """A finite number from `low` to `high`."""
        value = self._value.get(field)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise Invalid(f"{self._name}.{field} must be a number from {low} to {high}")
        return float(value)

    def boolean(self, field: str, *, default: bool | None = None) -> bool:
        """True or false."""
        value = self._value.get(field)
        if value is None and default is not None:
            return default
        if not isinstance(value, bool):
            raise Invalid(f"{self._name}.{field} must be true or false")
        return value

    def choice(self, field: str, choices: tuple[str, ...], *, default: str | None = None) -> str:
        """One of the given strings."""
        value = self._value.get(field)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or value not in choices:
            raise Invalid(f"{self._name}.{field} must be one of {', '.join(choices)}")
        return value

    def texts(self, field: str, *, most: int, each: int) -> tuple[str, ...]:
        """A list of at most `most` strings of at most `each` characters."""
        value = self._value.get(field)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > most:
            raise Invalid(f"{self._name}.{field} must be a list of at most {most} strings")
        for index, item in enumerate(value):
            if not isinstance(item, str):
                raise Invalid(f"{self._name}.{field}[{index}] must be a string")
            check_text(item, f"{self._name}.{field}[{index}]", most=each)
        return tuple(value)

    def object(self, field: str) -> "Fields":
        """An object inside this one."""
        return Fields(self._value.get(field), f"{self._name}.{field}")

    def tree(self, field: str) -> dict[str, Any]:
        """An object of any plain values, within limits of depth and size."""
        value = self._value.get(field)
        if not isinstance(value, dict):
            raise Invalid(f"{self._name}.{field} must be an object")
        check_tree(value, f"{self._name}.{field}")
        return value


def check_text(value: str, name: str, *, most: int, pattern: str = "") -> str:
    """Check one string; raises `Invalid`."""
    if len(value) > most:
        raise Invalid(f"{name} is longer than {most} characters")
    if "\x00" in value:
        raise Invalid(f"{name} holds a zero character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Invalid(f"{name} holds half a character (a lone surrogate)") from None
    if pattern and re.fullmatch(pattern, value) is None:
        raise Invalid(f"{name} does not have the expected form")
    return value


def check_tree(value: Any, name: str) -> None:
    """Check that a value is made of plain JSON values, within limits; raises `Invalid`."""
    stack: list[tuple[Any, int]] = [(value, 0)]
    nodes = 0
    while stack:
        node, depth = stack.pop()
        nodes += 1
        if depth > MAX_DEPTH or nodes > MAX_NODES:
            raise Invalid(f"{name} is nested deeper than {MAX_DEPTH} or holds more than {MAX_NODES} values")
        if isinstance(node, dict):
            for key, item in node.items():
                check_text(str(key), f"a key of {name}", most=1_000)
                stack.append((item, depth + 1))
        elif isinstance(node, list):
            stack.extend((item, depth + 1) for item in node)
        elif isinstance(node, str):
            check_text(node, f"a value of {name}", most=100_000)
        elif isinstance(node, float) and not math.isfinite(node):
            raise Invalid(f"{name} holds a number that is not finite")
