"""The alerts of a project: what is open, what was, the rules that watch, and the channels that are told."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from alerts.delivery import channel_test
from alerts.forms import RULE_FIELDS, ChannelForm, RuleForm
from alerts.models import Alert, Channel, Rule
from runs.access import CHANGING_ROLES, membership_for_user
from runs.models import Project

PAST_PER_PAGE = 25
OPEN_SHOWN = 100


def project_for_changes(user: Any, project_id: int) -> Project:
    """The project, for what its owners and members may do, and viewers not.

    Raises:
        Http404: there is no such project, or the user is no member of it.
        PermissionDenied: the user may only look.
    """
    membership = membership_for_user(user, project_id)
    if membership.role not in CHANGING_ROLES:
        raise PermissionDenied("Viewers cannot change alerts. Ask an owner of the project for the role of a member.")
    return membership.project


@require_safe
def alert_list(request: HttpRequest, project_id: int) -> HttpResponse:
    membership = membership_for_user(request.user, project_id)
    project = membership.project
    alerts = Alert.objects.filter(rule__project=project).select_related("rule", "run", "device", "seen_by")
    alerts = alerts.prefetch_related("deliveries__channel")
    past = alerts.exclude(resolved_at=None, seen_at=None)
    context = {
        "project": project,
        "can_change": membership.role in CHANGING_ROLES,
        "open_alerts": alerts.filter(resolved_at=None, seen_at=None)[:OPEN_SHOWN],
        "past": Paginator(past, PAST_PER_PAGE).get_page(request.GET.get("page")),
        "rules": project.rules.prefetch_related("channels"),
        "channels": project.channels.all(),
    }
    return render(request, "alerts/alert_list.html", context)


@require_POST
def alert_seen(request: HttpRequest, project_id: int, alert_id: int) -> HttpResponse:
    """Put an alert aside; it is told again only after what it is about was over and came back."""
    project = project_for_changes(request.user, project_id)
    alert = get_object_or_404(Alert, pk=alert_id, rule__project=project)
    Alert.objects.filter(pk=alert.pk, seen_at=None).update(seen_at=timezone.now(), seen_by=request.user)
    return redirect("alert_list", project.pk)


@require_http_methods(["GET", "HEAD", "POST"])
def rule_form(request: HttpRequest, project_id: int, rule_id: int | None = None) -> HttpResponse:
    """Make a rule, or change one."""
    project = project_for_changes(request.user, project_id)
    user: Any = request.user
    rule = get_object_or_404(project.rules, pk=rule_id) if rule_id else Rule(project=project, created_by=user)
    form = RuleForm(project, request.POST or None, instance=rule)
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, "The rule is saved. It is looked at every 15 seconds.")
        return redirect("alert_list", project.pk)
    fields = {kind.value: list(names) for kind, names in RULE_FIELDS.items()}
    context = {"project": project, "form": form, "rule": rule if rule_id else None, "fields_of_kinds": fields}
    return render(request, "alerts/rule_form.html", context)


@require_POST
def rule_switch(request: HttpRequest, project_id: int, rule_id: int) -> HttpResponse:
    """Turn a rule on or off; what it had found stays open until it is on again and finds it no more."""
    project = project_for_changes(request.user, project_id)
    rule = get_object_or_404(project.rules, pk=rule_id)
    project.rules.filter(pk=rule.pk).update(enabled=request.POST.get("enabled") == "on")
    return redirect("alert_list", project.pk)


@require_POST
def rule_delete(request: HttpRequest, project_id: int, rule_id: int) -> HttpResponse:
    project = project_for_changes(request.user, project_id)
    get_object_or_404(project.rules, pk=rule_id).delete()
    messages.success(request, "The rule and its alerts are deleted.")
    return redirect("alert_list", project.pk)


@require_http_methods(["GET", "HEAD", "POST"])
def channel_form(request: HttpRequest, project_id: int) -> HttpResponse:
    """Make a channel, and show the secret of a webhook, once."""
    project = project_for_changes(request.user, project_id)
    user: Any = request.user
    form = ChannelForm(project, request.POST or None, instance=Channel(project=project, created_by=user))
    if request.method == "POST" and form.is_valid():
        channel = form.save()
        return render(request, "alerts/channel_made.html", {"project": project, "channel": channel})
    return render(request, "alerts/channel_form.html", {"project": project, "form": form})


@require_POST
def channel_try(request: HttpRequest, project_id: int, channel_id: int) -> HttpResponse:
    """Send a test."""
    project = project_for_changes(request.user, project_id)
    channel = get_object_or_404(project.channels, pk=channel_id)
    if problem := channel_test(channel):
        messages.error(request, f"The test did not arrive. {problem}")
    else:
        messages.success(request, f"{channel} has taken the test.")
    return redirect("alert_list", project.pk)


@require_POST
def channel_delete(request: HttpRequest, project_id: int, channel_id: int) -> HttpResponse:
    project = project_for_changes(request.user, project_id)
    channel = get_object_or_404(project.channels, pk=channel_id)
    channel.delete()
    messages.success(request, f"{channel} is told no more.")
    return redirect("alert_list", project.pk)


_PROJECT = "projects/<int:project_id>/alerts/"
urlpatterns = [
    path(_PROJECT, alert_list, name="alert_list"),
    path(f"{_PROJECT}<int:alert_id>/seen/", alert_seen, name="alert_seen"),
    path(f"{_PROJECT}rules/new/", rule_form, name="rule_create"),
    path(f"{_PROJECT}rules/<int:rule_id>/", rule_form, name="rule_edit"),
    path(f"{_PROJECT}rules/<int:rule_id>/switch/", rule_switch, name="rule_switch"),
    path(f"{_PROJECT}rules/<int:rule_id>/delete/", rule_delete, name="rule_delete"),
    path(f"{_PROJECT}channels/new/", channel_form, name="channel_create"),
    path(f"{_PROJECT}channels/<int:channel_id>/test/", channel_try, name="channel_test"),
    path(f"{_PROJECT}channels/<int:channel_id>/delete/", channel_delete, name="channel_delete"),
]
