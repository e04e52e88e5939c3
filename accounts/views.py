"""Sign-in, the own account and the home page."""

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.views import LoginView, PasswordChangeView
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.views.decorators.http import require_POST, require_safe

from accounts.first_steps import first_steps
from accounts.forms import LoginForm
from configurations.models import Configuration
from devices.models import Device
from groups.models import Group
from runs.device_choice import devices_now
from runs.lists import projects_listed
from runs.models import Project, Run

ROWS = 8  # of each list on the home page
STEPS_COOKIE = "first_steps_dismissed"
STEPS_COOKIE_SECONDS = 365 * 24 * 3600


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
    context = {
        "device_count": Device.objects.bound().filter(owner=request.user.pk).count(),
        "project_count": Project.objects.visible_to(request.user).count(),
        "configuration_count": Configuration.objects.visible_to(request.user).count(),
    }
    return render(request, "accounts/account.html", context)


@require_POST
def steps_dismiss(request: HttpRequest) -> HttpResponse:
    """Hide the first steps of this user in this browser."""
    response = redirect("home")
    response.set_cookie(
        STEPS_COOKIE,
        str(request.user.pk),
        max_age=STEPS_COOKIE_SECONDS,
        httponly=True,
        secure=settings.SESSION_COOKIE_SECURE,
        samesite="Lax",
    )
    return response


def _groups_of(user: Any) -> Any:
    visible = Group.objects.filter(pk__in=Group.objects.visible_to(user).values("pk"))
    return visible.annotate(member_count=Count("memberships"))[:ROWS]


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """First steps, my devices and recent runs."""
    steps = first_steps(request.user)
    next_step = next((step for step in steps if not step.done), None)
    devices = Device.objects.bound().filter(owner=request.user.pk).order_by("-online", "name")
    context = {
        "steps": steps,
        "next_step": next_step,
        "all_done": next_step is None or request.COOKIES.get(STEPS_COOKIE) == str(request.user.pk),
        "projects": projects_listed(request.user).order_by("-created_at")[:ROWS],
        "groups": _groups_of(request.user),
        "done_count": sum(step.done for step in steps),
        "devices": devices_now(devices[:ROWS]),
        "device_count": devices.count(),
        "runs": Run.objects.visible_to(request.user).select_related("project")[:ROWS],
    }
    return render(request, "accounts/home.html", context)
