"""What is done to several devices at once."""

from __future__ import annotations

from django.contrib import messages
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from devices import services
from devices.broker import BrokerError
from devices.models import Device
from runs.models import RunDevice

MOST = 200  # devices at once


@require_http_methods(["GET", "HEAD", "POST"])
def devices_unbind(request: HttpRequest) -> HttpResponse:
    """Say what unbinding the chosen devices costs; on POST end their credentials, one device after the other.

    Devices of others, and such as are unbound already, are left out. Where the broker goes away half-way, those that
    are still bound are named.
    """
    given = request.POST if request.method == "POST" else request.GET
    ids = [int(value) for value in given.getlist("device") if value.isdecimal() and len(value) < 18][:MOST]
    held = RunDevice.objects.filter(holds_device=True).select_related("run__project")
    own = Device.objects.bound().filter(owner=request.user.pk, pk__in=ids)
    devices = list(own.order_by("name", "pk").prefetch_related(Prefetch("run_devices", held, to_attr="held")))
    if not devices:
        messages.info(request, "Choose one or more of your own devices first.")
        return redirect("device_list")
    if request.method != "POST":
        return render(request, "devices/devices_unbind.html", {"devices": devices})
    done = 0
    for device in devices:
        try:
            services.device_unbind(device)
        except BrokerError as error:
            left = ", ".join(each.name for each in devices[done:])
            messages.error(request, f"Still bound: {left}. {error}")
            break
        done += 1
    if done:
        messages.success(
            request, f"{done} device{'s are' if done > 1 else ' is'} unbound. Their credentials have ended."
        )
    return redirect("device_list")
