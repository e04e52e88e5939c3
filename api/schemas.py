"""Shapes that several routers share: pages of lists, ids, and text that a database can hold."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from django.db.models import Model, QuerySet
from ninja import Field, Path, Query, Schema
from ninja.params import functions
from pydantic import StringConstraints

from mlops_site.lists import ListSpec

ID_MAX = 2**63 - 1
PAGE_MAX = 100_000

Id = Annotated[int, Path(ge=1, le=ID_MAX)]
OptionalId = Annotated[int | None, Query(None, ge=1, le=ID_MAX)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

Item = TypeVar("Item")
ModelT = TypeVar("ModelT", bound=Model)


class Page(Schema, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    total: int = Field(description="how many there are on all pages")
    page: int
    page_size: int


class PageQuery(Schema):
    """Which page of a list, and of which rows."""

    q: str = Field(default="", max_length=200, description="words that each row has to contain")
    page: int = Field(default=1, ge=1, le=PAGE_MAX)
    page_size: int = Field(default=25, ge=1, le=200)


def rows_page(
    rows: QuerySet[ModelT, Any], spec: ListSpec, query: PageQuery, sort: str | None
) -> tuple[list[ModelT], dict[str, int]]:
    """Search, sort and page ``rows`` as the pages' lists do.

    Returns:
        The rows of the page, and the fields of :class:`Page` besides its items.
    """
    found = spec.sorted(spec.matching(rows, query.q), sort or "")
    start = (query.page - 1) * query.page_size
    facts = {"total": found.count(), "page": query.page, "page_size": query.page_size}
    return list(found[start : start + query.page_size]), facts


def sort_query(spec: ListSpec) -> Any:
    """Return the parameter ``sort`` of a list: one of its names, with a minus in front for descending."""
    names = "|".join(spec.sorts)
    description = f"{', '.join(spec.sorts)}; a minus in front turns the order"
    return functions.Query(spec.default_sort, pattern=f"^-?({names})$", description=description)
