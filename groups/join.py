"""How an invited person joins: with an account, or, where the operator allows it, by making one."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from groups.forms import InvitedAccountForm, TokenForm
from groups.invitations import GONE, invitation_accept, invitation_find, token_digest
from groups.models import GroupMembership, Invitation
from groups.services import GroupRefused

SESSION_KEY = "invitation"  # the digest of the token, until it is taken or another comes


def _invitation(request: HttpRequest) -> Invitation | None:
    digest = request.session.get(SESSION_KEY)
    invitation = invitation_find(digest) if digest else None
    if digest and invitation is None:
        request.session.pop(SESSION_KEY, None)
        messages.error(request, GONE)
    return invitation


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest) -> HttpResponse:
    """Take the token of a link into the session, and ask whether to join.

    The script of the page sends what stands behind the ``#``; without scripts the person pastes the link.
    """
    if request.method == "POST":
        form = TokenForm(request.POST)
        if form.is_valid():
            request.session[SESSION_KEY] = token_digest(form.cleaned_data["token"])
        return redirect("join")
    invitation = _invitation(request)
    context = {
        "invitation": invitation,
        "token_form": TokenForm(),
        "account_form": InvitedAccountForm(),
        "accounts_allowed": settings.INVITED_ACCOUNTS,
        "is_member": invitation is not None
        and request.user.is_authenticated
        and GroupMembership.objects.filter(group=invitation.group, user=request.user.pk).exists(),
    }
    return render(request, "groups/join.html", context)


@require_POST
def join_accept(request: HttpRequest) -> HttpResponse:
    """Join with the account that is signed in."""
    invitation = _invitation(request)
    if invitation is None:
        return redirect("join")
    try:
        is_new = invitation_accept(invitation=invitation, user=request.user)
    except GroupRefused as refused:
        messages.error(request, str(refused))
        return redirect("join")
    request.session.pop(SESSION_KEY, None)
    messages.success(
        request, f"You are now in the group {invitation.group}." if is_new else "You are in this group already."
    )
    return redirect(invitation.group)


@login_not_required
@never_cache
@require_POST
def join_account(request: HttpRequest) -> HttpResponse:
    """Make an account and join with it, both or neither."""
    invitation = _invitation(request)
    if invitation is None or not settings.INVITED_ACCOUNTS or request.user.is_authenticated:
        return redirect("join")
    form = InvitedAccountForm(request.POST)
    if not form.is_valid():
        context = {
            "invitation": invitation,
            "token_form": TokenForm(),
            "account_form": form,
            "accounts_allowed": True,
        }
        return render(request, "groups/join.html", context)
    try:
        with transaction.atomic():
            user = form.save()
            invitation_accept(invitation=invitation, user=user)
    except GroupRefused as refused:
        messages.error(request, str(refused))
        return redirect("join")
    login(request, user)
    request.session.pop(SESSION_KEY, None)
    messages.success(request, f"Welcome. You are now in the group {invitation.group}.")
    return redirect(invitation.group)


urlpatterns = [
    path("join/", join, name="join"),
    path("join/accept/", join_accept, name="join_accept"),
    path("join/account/", join_account, name="join_account"),
]
