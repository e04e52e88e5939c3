"""The page "Is this installation healthy?", and the figures of the installation for Prometheus.

Every user sees the states of the checks; details and what to do are for those who run the installation (staff).
"""

from __future__ import annotations

import ipaddress
import secrets

from django.conf import settings
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from health.checks import CHECKS
from health.metrics import metrics_text
from health.runner import Finding, check_finding, checks_start
from mlops_site.interface import ApiError, bearer_token, interface

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Where one of these is there a proxy has passed the request on, and the address is that of the proxy.
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip")


@require_safe
@never_cache
def health(request: HttpRequest) -> HttpResponse:
    """Every check with its question. Answers are fetched one by one, or with ``?now`` are all in this page."""
    checks = list(CHECKS.values())
    findings: list[Finding] = []
    if "now" in request.GET:
        checks_start(checks)
        findings = [check_finding(check) for check in checks]
    return render(request, "health/health.html", {"checks": checks, "findings": findings})


@require_safe
@never_cache
def health_check(request: HttpRequest, name: str) -> HttpResponse:
    """Fragment: one check with its answer."""
    if name not in CHECKS:
        raise Http404("There is no such check.")
    return render(request, "health/_finding.html", {"finding": check_finding(CHECKS[name])})


@interface
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Every figure, for whoever has the token of the settings; without one in the settings, for this machine alone."""
    if settings.METRICS_TOKEN:
        if not secrets.compare_digest(bearer_token(request).encode(), settings.METRICS_TOKEN.encode()):
            raise ApiError(401, "This is not the token of ROUNDTABLE_METRICS_TOKEN.")
    elif not _from_this_machine(request):
        raise ApiError(403, "Only this machine reads the metrics until ROUNDTABLE_METRICS_TOKEN is set.")
    try:
        return HttpResponse(metrics_text(), content_type=METRICS_TYPE)
    except DatabaseError:
        raise ApiError(503, "The database does not answer.") from None


def _from_this_machine(request: HttpRequest) -> bool:
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.META.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False
