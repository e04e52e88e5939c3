"""Pages of devices. Its owner changes a device, members of the owner's projects see it, others do not."""

from __future__ import annotations

from typing import Any, cast

import segno
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from devices import services
from devices.access import device_for_change, device_for_user
from devices.broker import BrokerError
from devices.checks import self_check_read
from devices.forms import DeviceNameForm
from devices.lists import DEVICES, STATES, devices_listed
from devices.models import Device, EnrolmentCode
from mlops_site.lists import listing_by

RUNS_SHOWN = 25
WHOSE = {"": "All", "mine": "Mine", "team": "My team's"}
# Tells htmx to stop asking (https://htmx.org/docs/#polling).
STOP_POLLING = 286


@require_safe
def device_list(request: HttpRequest) -> HttpResponse:
    """The own devices, and those of everyone with whom a project is shared."""
    whose, state, group = (request.GET.get(name, "") for name in ("whose", "state", "group"))
    group_id = int(group) if group.isdecimal() and len(group) < 18 else None
    found = listing_by(request, devices_listed(_user(request), whose, state=state, group_id=group_id), DEVICES)
    devices = list(found.page)
    activities = services.device_activities(devices)
    context = {
        "listing": found,
        "rows": [(device, activities[device.pk]) for device in devices],
        "whose": whose,
        "whose_choices": WHOSE.items(),
        "state": state,
        "state_choices": STATES.items(),
        "group_id": group_id,
        "groups": _user(request).group_memberships.select_related("group").order_by("group__name"),
        "filtered": (whose in WHOSE and whose != "") or state in STATES or group_id is not None,
        "any_own": any(device.owner_id == request.user.pk for device in devices),
    }
    return render(request, "devices/device_list.html", context)


@require_safe
def device_detail(request: HttpRequest, device_id: int) -> HttpResponse:
    """Everything that is known of a device, and the runs that it took part in."""
    device = device_for_user(_user(request), device_id)
    seen = device.run_devices.filter(run__project__memberships__user=_user(request)).select_related("run__project")
    context = {
        "device": device,
        "activity": services.device_activities([device])[device.pk],
        "check": self_check_read(device.check_result),
        "parts": seen.order_by("-run_id")[:RUNS_SHOWN],
        "may_change": _may_change(request, device),
    }
    return render(request, "devices/device_detail.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def device_bind(request: HttpRequest) -> HttpResponse:
    """Explain how a device is bound; on POST make a code, which is shown in this answer alone."""
    context: dict[str, Any] = {"server": settings.PUBLIC_URL, "minutes": settings.ENROLMENT_CODE_SECONDS // 60}
    if request.method == "POST":
        code, row = services.enrolment_code_issue(_user(request))
        run = f"run.sh {code} --server {settings.PUBLIC_URL}"
        fetch = f"curl -fsSL {settings.PUBLIC_URL}/edge/agent.tar.gz | tar xz"
        context |= {
            "enrolment": row,
            "command_clone": f"edge/{run}",
            "command_download": f"{fetch} && roundtable-edge/{run}",
        }
        context["qr_code"] = _qr_code(context["command_download"])
    return render(request, "devices/device_bind.html", context)


@require_safe
@never_cache
def device_bind_progress(request: HttpRequest, code_id: int) -> HttpResponse:
    """Fragment: whether the device that was given this code has arrived."""
    enrolment = get_object_or_404(EnrolmentCode.objects.select_related("device"), pk=code_id, user=_user(request))
    context: dict[str, Any] = {"enrolment": enrolment, "expired": enrolment.expires_at <= timezone.now()}
    online = False
    if enrolment.device is not None:
        context["activity"] = services.device_activities([enrolment.device])[enrolment.device.pk]
        online = enrolment.device.online
    ended = online or (enrolment.device is None and context["expired"])
    return render(request, "devices/inc/bind_progress.html", context, status=STOP_POLLING if ended else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def device_rename(request: HttpRequest, device_id: int) -> HttpResponse:
    """Give a device another name."""
    device = device_for_change(_user(request), device_id)
    form = DeviceNameForm(request.POST or None, initial={"name": device.name})
    if request.method == "POST" and form.is_valid():
        services.device_rename(device, form.cleaned_data["name"])
        messages.success(request, f"The device is now called {device.name}.")
        return redirect(device)
    context = {"form": form, "device": device, "submit_label": "Rename", "cancel_url": device.get_absolute_url()}
    return render(request, "devices/device_rename.html", context)


@require_safe
def device_rotate(request: HttpRequest, device_id: int) -> HttpResponse:
    """Say how the device's secrets are renewed: the device does it, as only it may learn the new ones."""
    device = device_for_change(_user(request), device_id)
    return render(request, "devices/device_rotate.html", {"device": device})


@require_http_methods(["GET", "HEAD", "POST"])
def device_unbind(request: HttpRequest, device_id: int) -> HttpResponse:
    """Say what unbinding costs; on POST end the device's credentials."""
    device = device_for_change(_user(request), device_id)
    if request.method == "POST":
        try:
            services.device_unbind(device)
        except BrokerError as error:
            messages.error(request, f"The device is still bound. {error}")
            return redirect(device)
        messages.success(request, f"{device.name} is unbound. Its credentials have ended.")
        return redirect("device_list")
    held = device.run_devices.filter(holds_device=True).select_related("run__project")
    return render(request, "devices/device_unbind.html", {"device": device, "held": held})


def _user(request: HttpRequest) -> User:
    """The signed-in user; LoginRequiredMiddleware lets nobody else through."""
    return cast(User, request.user)


def _qr_code(text: str) -> str:
    """A QR code of ``text`` as an image's address; black on white in either theme, so that every camera reads it."""
    return segno.make(text, error="m", micro=False).svg_data_uri(scale=4, border=4, dark="#000", light="#fff")


def _may_change(request: HttpRequest, device: Device) -> bool:
    return device.owner_id == _user(request).pk and device.unbound_at is None
