"""Search, sort and page a list by its URL: ``?q=words&sort=-name&page=2``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core.paginator import Page, Paginator
from django.db.models import F, Model, Q, QuerySet
from django.http import HttpRequest

ModelT = TypeVar("ModelT", bound=Model)


@dataclass(frozen=True)
class Listing(Generic[ModelT]):
    """What ``list_base.html`` shows.

    Parameters
    ----------
    page: the rows of this page.
    query: the words searched for.
    sort: key of ``sorts``, with a minus in front for descending.
    total: rows that match, on all pages.
    """

    page: "Page[ModelT]"
    query: str
    sort: str
    total: int


@dataclass(frozen=True)
class ListSpec:
    """How a list is searched and sorted, on its page and in the Web API alike.

    Parameters
    ----------
    search: text fields (as lookups) in which each word of a query is looked for.
    sorts: names that a caller may sort by, and the field (as ``order_by`` takes it) behind each.
    default_sort: key of ``sorts``, with a minus in front for descending.
    """

    search: Sequence[str]
    sorts: Mapping[str, str]
    default_sort: str

    def matching(self, rows: QuerySet[ModelT, Any], query: str) -> QuerySet[ModelT, Any]:
        """Return the rows that contain every word of ``query``."""
        for word in query.split():
            matches = Q()
            for field in self.search:
                matches |= Q(**{f"{field}__icontains": word})
            rows = rows.filter(matches)
        return rows

    def sort_or_default(self, sort: str) -> str:
        """Return ``sort`` where it names something to sort by, else the default."""
        return sort if sort.removeprefix("-") in self.sorts else self.default_sort

    def sorted(self, rows: QuerySet[ModelT, Any], sort: str) -> QuerySet[ModelT, Any]:
        """Return the rows in the order of ``sort``; equal ones newest first, those that have no value last."""
        sort = self.sort_or_default(sort)
        column = F(self.sorts[sort.removeprefix("-")])
        order = column.desc(nulls_last=True) if sort.startswith("-") else column.asc(nulls_last=True)
        return rows.order_by(order, "-pk")


def listing(
    request: HttpRequest,
    rows: QuerySet[ModelT, Any],
    *,
    search: Sequence[str],
    sorts: Mapping[str, str],
    default_sort: str,
    per_page: int = 25,
) -> Listing[ModelT]:
    """Apply the request's search, sort and page to ``rows``, in two queries.

    Parameters
    ----------
    search: text fields (as lookups) in which each word of ``q`` is looked for.
    sorts: names in the URL and the field (as ``order_by`` takes it) behind each. An unknown name sorts by the default.
    default_sort: key of ``sorts``, with a minus in front for descending.
    """
    return listing_by(request, rows, ListSpec(search, sorts, default_sort), per_page=per_page)


def listing_by(
    request: HttpRequest, rows: QuerySet[ModelT, Any], spec: ListSpec, *, per_page: int = 25
) -> Listing[ModelT]:
    """Apply the request's search, sort and page to ``rows``, as ``spec`` says, in two queries."""
    query = request.GET.get("q", "").strip()[:200]
    sort = spec.sort_or_default(request.GET.get("sort", ""))
    found = spec.sorted(spec.matching(rows, query), sort)
    page = Paginator(found, per_page).get_page(request.GET.get("page"))
    return Listing(page=page, query=query, sort=sort, total=page.paginator.count)
