"""The page of what a project keeps for how long."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_http_methods

from runs.access import project_for_owner
from runs.models import ModelKind, Project, Run, Series, StoredModel

DAYS_MAX = 36_500


def _days(label: str) -> forms.IntegerField:
    widget = forms.NumberInput(attrs={"placeholder": "for good"})
    return forms.IntegerField(label=label, min_value=1, max_value=DAYS_MAX, required=False, widget=widget)


class RetentionForm(forms.ModelForm):  # type: ignore[type-arg]
    """For how many days after a run's end the project keeps what."""

    log_days = _days("Days to keep log lines")
    point_days = _days("Days to keep points of metrics")
    client_model_days = _days("Days to keep models of devices")

    class Meta:
        model = Project
        fields = ["log_days", "point_days", "client_model_days"]


@require_http_methods(["GET", "HEAD", "POST"])
def project_retention(request: HttpRequest, project_id: int) -> HttpResponse:
    project = project_for_owner(request.user, project_id)
    form = RetentionForm(request.POST or None, instance=project)
    if form.is_valid():
        form.save()
        messages.success(request, "Saved. What is older goes within some minutes.")
        return redirect("project_retention", project.pk)
    models = StoredModel.objects.filter(run__project=project, run__deleted_at=None).order_by()
    by_kind = {
        row["kind"]: row for row in models.values("kind").annotate(count=Count("pk"), size=Sum("size")).order_by()
    }
    context = {
        "project": project,
        "form": form,
        "points": Series.objects.filter(run__project=project).aggregate(count=Sum("count"))["count"] or 0,
        "aggregated": by_kind.get(ModelKind.AGGREGATED),
        "clients": by_kind.get(ModelKind.CLIENT),
        "being_removed": Run.with_deleted.filter(project=project, deleted_at__isnull=False).count(),
    }
    return render(request, "runs/project_retention.html", context)


urlpatterns = [path("projects/<int:project_id>/storage/", project_retention, name="project_retention")]
