"""Sign-in, the own account and the home page."""

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, PasswordChangeView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.views.decorators.http import require_POST, require_safe

from accounts.forms import LoginForm


class Login(LoginView):
    """Sign in. Whoever is signed in already goes home."""

    authentication_form = LoginForm
    redirect_authenticated_user = True
    template_name = "registration/login.html"


@login_not_required
@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    """End the session and say so on the sign-in page."""
    logout(request)
    messages.success(request, "You are signed out.")
    return redirect("login")


class ChangePassword(PasswordChangeView):
    """Change the own password; other sessions of the account end."""

    template_name = "registration/password_change_form.html"
    success_url = reverse_lazy("account")

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        messages.success(self.request, "Your password is changed. Your sessions in other browsers have ended.")
        return super().form_valid(form)


@require_safe
def account(request: HttpRequest) -> HttpResponse:
    """The own account."""
    return render(request, "accounts/account.html")


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """First steps, my devices and recent runs."""
    return render(request, "accounts/home.html")
