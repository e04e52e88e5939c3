from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

pytestmark = pytest.mark.django_db

GIVEN = "four quiet herons"


def create_user(*arguments: str, typed: str = "") -> str:
    output = StringIO()
    call_command("create_user", *arguments, stdin=StringIO(typed), stdout=output)
    return output.getvalue()


def test_it_reads_the_password_from_the_standard_input() -> None:
    output = create_user("ada", typed=f"{GIVEN}\n")
    assert output == "Made the user ada.\n"
    ada = User.objects.get(username="ada")
    assert ada.check_password(GIVEN)
    assert not ada.is_superuser


def test_it_makes_a_password_and_prints_it_once() -> None:
    password = create_user("ada").partition("Password (shown this once): ")[2].strip()
    assert len(password) >= 20
    assert User.objects.get(username="ada").check_password(password)


def test_it_makes_an_administrator() -> None:
    assert "Made the administrator root" in create_user("root", "--admin", "--email", "root@example.org")
    root = User.objects.get(username="root")
    assert (root.is_superuser, root.is_staff, root.email) == (True, True, "root@example.org")


@pytest.mark.parametrize(
    ("arguments", "typed", "message"),
    [
        (("ada",), "12345678\n", "too common"),
        (("no spaces allowed",), "", "valid username"),
        (("ada", "--email", "nonsense"), "", "valid email"),
    ],
)
def test_it_refuses_what_is_not_usable(arguments: tuple[str, ...], typed: str, message: str) -> None:
    with pytest.raises(CommandError, match=message):
        create_user(*arguments, typed=typed)
    assert not User.objects.exists()


def test_it_refuses_a_name_that_is_taken() -> None:
    create_user("ada", typed=f"{GIVEN}\n")
    with pytest.raises(CommandError, match="There is a user named ada already"):
        create_user("ada")
    assert User.objects.get().check_password(GIVEN)
