"""Plain scalars that YAML 1.1 reads otherwise than they look, and what to write instead."""

from __future__ import annotations

import re

TAG = "tag:yaml.org,2002:"
_SCIENTIFIC = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]+")
_LEADING_ZERO = re.compile(r"[+-]?0[0-9_]+")
_OCTAL_12 = re.compile(r"0o[0-7]+")
_SEXAGESIMAL = re.compile(r"[+-]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_NOT_FINITE_WORDS = {"nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"}
_PLAIN_TRUTH = {"true", "True", "TRUE", "false", "False", "FALSE"}


def text_like_a_number(text: str) -> str | None:
    """Return the fix for a plain scalar that YAML 1.1 takes for text although it looks like a number."""
    if _SCIENTIFIC.fullmatch(text):
        mantissa, _, exponent = text.lower().partition("e")
        if "." not in mantissa:
            mantissa += ".0"
        elif mantissa.endswith("."):
            mantissa += "0"
        sign = exponent if exponent[0] in "+-" else f"+{exponent}"
        return f"Write {mantissa}e{sign} for the number, or put it in quotes for the text."
    if _OCTAL_12.fullmatch(text):
        return f"Write {int(text[2:][:20], 8)} for the number, or put it in quotes for the text."
    if _LEADING_ZERO.fullmatch(text):
        return f"Write {_without_zeros(text)} for the number, or put it in quotes for the text."
    if text.lower() in _NOT_FINITE_WORDS:
        return "Write a finite number, or put it in quotes for the text."
    return None


def misreading(tag: str, text: str) -> tuple[str, str] | None:
    """Return what YAML 1.1 reads and the fix, for a plain scalar that it does not take for what it looks like."""
    kind = tag.removeprefix(TAG)
    if kind == "bool" and text not in _PLAIN_TRUTH:
        value = str(text.lower() in ("yes", "on")).lower()
        return value, f"Write {value}, or '{text}' in quotes for the text."
    if kind in ("int", "float") and _SEXAGESIMAL.fullmatch(text):
        return "a number to the base 60", f"Write '{shown(text)}' in quotes for the text, or the number that you mean."
    if kind == "int" and _LEADING_ZERO.fullmatch(text):
        octal = int(text.replace("_", "")[:40], 8)
        return f"the octal number {octal}", (
            f"Write {_without_zeros(text)} or {octal} for the number, or put it in quotes for the text."
        )
    if kind == "timestamp":
        return "a date", f"Write '{shown(text)}' in quotes for the text."
    return None


def _without_zeros(text: str) -> str:
    digits = text.replace("_", "").lstrip("+-0")[:40] or "0"
    return f"-{digits}" if text.startswith("-") else digits


def shown(text: str) -> str:
    """Return ``text`` as an error shows it: printable and not too long."""
    printable = text if text.isprintable() else ascii(text)[1:-1]
    return printable if len(printable) <= 80 else printable[:77] + "..."
