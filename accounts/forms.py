"""Sign-in and password forms."""

from typing import Any

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.http import HttpRequest

from accounts.throttle import WAIT_SECONDS, login_failed, login_is_blocked, login_succeeded


class LoginForm(AuthenticationForm):
    """Django's sign-in form with a limit on failed attempts."""

    error_messages = {
        "invalid_login": "This user name and password do not match. Both are case-sensitive.",
        "inactive": "This account is switched off. Ask an administrator of this platform.",
        "blocked": "Too many failed attempts for this account. Wait {minutes} minutes, then try again.",
    }

    def __init__(self, request: HttpRequest | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, *args, **kwargs)
        self.fields["username"].label = "User name"

    def clean(self) -> dict[str, Any]:
        username = str(self.cleaned_data.get("username", ""))
        address = str(self.request.META.get("REMOTE_ADDR", "")) if self.request else ""
        if login_is_blocked(username, address):
            raise forms.ValidationError(
                self.error_messages["blocked"].format(minutes=WAIT_SECONDS // 60), code="blocked"
            )
        try:
            cleaned = super().clean()
        except forms.ValidationError:
            login_failed(username, address)
            raise
        login_succeeded(username, address)
        return cleaned
