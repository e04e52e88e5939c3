"""``manage.py create_user NAME [--admin]``: make an account. Sign-up is closed; this is how people get in."""

import secrets
import sys
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import IntegrityError, transaction


class Command(BaseCommand):
    """Read a password from the standard input, or make one and print it once; never take one as an argument."""

    help = (
        "Make an account. The password is read from the standard input when that is a pipe "
        "(echo ... | manage.py create_user ada); otherwise one is made and printed once."
    )

    stealth_options = ("stdin",)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="user name to sign in with")
        parser.add_argument("--admin", action="store_true", help="may do everything on this platform")
        parser.add_argument("--email", default="", help="e-mail address")

    def handle(self, *args: Any, name: str, admin: bool, email: str, **options: Any) -> None:
        stream = options.get("stdin") or sys.stdin
        given = "" if stream.isatty() else stream.readline().rstrip("\r\n")
        password = given or secrets.token_urlsafe(15)
        model = get_user_model()
        user = model(username=name, email=email, is_staff=admin, is_superuser=admin)
        try:
            user.clean_fields(exclude=["password"])
            if given:
                validate_password(password, user)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        user.set_password(password)
        try:
            with transaction.atomic():
                user.save(force_insert=True)
        except IntegrityError as error:
            raise CommandError(f"There is a user named {name} already. Choose another name.") from error
        self.stdout.write(f"Made the {'administrator' if admin else 'user'} {name}.")
        if not given:
            self.stdout.write(f"Password (shown this once): {password}")
