"""The page "Is this installation healthy?": every user sees the states, those who run the installation also details."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from health.checks import CHECKS
from health.runner import Finding, check_finding, checks_start


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
