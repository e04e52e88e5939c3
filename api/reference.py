"""The OpenAPI schema as the reference shows it: sections of operations, with parameters, bodies and answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FieldShown:
    """A parameter, or a field of a body or an answer."""

    name: str
    type: str
    description: str = ""
    required: bool = False
    place: str = ""


@dataclass(frozen=True)
class OperationShown:
    """One operation."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    scope: str
    parameters: list[FieldShown]
    body: list[FieldShown]
    body_type: str
    answer: list[FieldShown]
    answer_type: str
    status: str


@dataclass(frozen=True)
class SectionShown:
    """The operations of one router."""

    name: str
    operations: list[OperationShown] = field(default_factory=list)


def reference_sections(schema: Mapping[str, Any]) -> list[SectionShown]:
    """Return the operations of ``schema`` by section, in the order in which they stand there."""
    sections: dict[str, SectionShown] = {}
    for path, methods in schema["paths"].items():
        for method, details in methods.items():
            tag = details["tags"][0]
            section = sections.setdefault(tag, SectionShown(tag))
            section.operations.append(_operation(schema, method.upper(), path, details))
    return list(sections.values())


def _operation(schema: Mapping[str, Any], method: str, path: str, details: Mapping[str, Any]) -> OperationShown:
    status = next(code for code in details["responses"] if code.startswith("2"))
    body_type, body = _content(schema, details.get("requestBody", {}))
    answer_type, answer = _content(schema, details["responses"][status])
    return OperationShown(
        id=details["operationId"],
        method=method,
        path=path,
        summary=details["summary"],
        description=details.get("description", ""),
        scope=details["x-scope"],
        parameters=[_parameter(schema, each) for each in details["parameters"]],
        body=body,
        body_type=body_type,
        answer=answer,
        answer_type=answer_type,
        status=status,
    )


def _parameter(schema: Mapping[str, Any], each: Mapping[str, Any]) -> FieldShown:
    details = each["schema"]
    description = each.get("description") or details.get("description", "")
    return FieldShown(
        each["name"], type_text(schema, details), description, bool(each.get("required")), place=each["in"]
    )


def _content(schema: Mapping[str, Any], holder: Mapping[str, Any]) -> tuple[str, list[FieldShown]]:
    """Return what a body or an answer is, in words, and its fields where it is an object."""
    content = holder.get("content", {})
    if not content:
        return "", []
    media = next(iter(content))
    details = content[media].get("schema", {})
    resolved = _resolve(schema, details)
    if "properties" not in resolved:
        return (media if media != "application/json" else type_text(schema, details)), []
    required = set(resolved.get("required", []))
    fields = [
        FieldShown(name, type_text(schema, each), each.get("description", ""), name in required)
        for name, each in resolved["properties"].items()
    ]
    return type_text(schema, details), fields


def type_text(schema: Mapping[str, Any], details: Mapping[str, Any]) -> str:
    """Say in a few words what a value is."""
    if "$ref" in details:
        resolved = _resolve(schema, details)
        if "enum" in resolved:
            return " or ".join(str(value) for value in resolved["enum"])
        return str(details["$ref"].rsplit("/", 1)[-1])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in details:
            return " or ".join(dict.fromkeys(type_text(schema, each) for each in details[key]))
    if "enum" in details:
        return " or ".join(str(value) or "empty" for value in details["enum"])
    if "const" in details:
        return str(details["const"])
    kind = details.get("type", "any value")
    if kind == "array":
        return f"list of {type_text(schema, details.get('items', {}))}"
    if details.get("format") == "date-time":
        return "time"
    return str(kind)


def _resolve(schema: Mapping[str, Any], details: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in details:
        details = schema["components"]["schemas"][details["$ref"].rsplit("/", 1)[-1]]
    return details
