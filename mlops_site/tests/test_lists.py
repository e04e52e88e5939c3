import pytest
from django.test import RequestFactory

from accounts.tests.objects import make_project, make_user
from mlops_site.lists import Listing, listing
from runs.models import Project

pytestmark = pytest.mark.django_db


def names(query: str) -> list[str]:
    return [project.name for project in made(query).page]


def made(query: str) -> Listing[Project]:
    return listing(
        RequestFactory().get(f"/{query}"),
        Project.objects.all(),
        search=["name", "description"],
        sorts={"name": "name", "created": "created_at"},
        default_sort="-name",
        per_page=2,
    )


@pytest.fixture(autouse=True)
def _projects() -> None:
    ada = make_user("ada")
    for name in ("Alpha one", "Beta two", "Gamma one"):
        make_project(ada, name)
    Project.objects.filter(name="Beta two").update(description="the one in between")


def test_it_sorts_by_the_default_and_pages() -> None:
    assert names("") == ["Gamma one", "Beta two"]
    assert names("?page=2") == ["Alpha one"]


def test_it_sorts_both_ways() -> None:
    assert names("?sort=name") == ["Alpha one", "Beta two"]
    assert names("?sort=-name") == ["Gamma one", "Beta two"]


@pytest.mark.parametrize("query", ["?sort=created_by__password", "?sort=--name", "?sort=-", "?sort=pk"])
def test_it_ignores_an_order_that_is_not_offered(query: str) -> None:
    assert made(query).sort == "-name"
    assert names(query) == ["Gamma one", "Beta two"]


def test_every_word_has_to_be_somewhere() -> None:
    assert names("?q=ONE") == ["Gamma one", "Beta two"]
    assert names("?q=one+two") == ["Beta two"]
    assert names("?q=one+three") == []


@pytest.mark.parametrize("page", ["0", "99", "x", "-1"])
def test_a_page_that_is_not_there_is_another_one(page: str) -> None:
    assert len(made(f"?page={page}").page) in (1, 2)


def test_it_counts_what_matches() -> None:
    found = made("?q=+one+")
    assert (found.total, found.query) == (3, "one")
