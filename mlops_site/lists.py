"""Search, sort and page a list by its URL: ``?q=words&sort=-name&page=2``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core.paginator import Page, Paginator
from django.db.models import Model, Q, QuerySet
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
    query = request.GET.get("q", "").strip()[:200]
    for word in query.split():
        matches = Q()
        for field in search:
            matches |= Q(**{f"{field}__icontains": word})
        rows = rows.filter(matches)
    sort = request.GET.get("sort", "")
    if sort.removeprefix("-") not in sorts:
        sort = default_sort
    column = sorts[sort.removeprefix("-")]
    rows = rows.order_by(f"-{column}" if sort.startswith("-") else column, "-pk")
    page = Paginator(rows, per_page).get_page(request.GET.get("page"))
    return Listing(page=page, query=query, sort=sort, total=page.paginator.count)
