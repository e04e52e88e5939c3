"""URLs of projects and runs: pages, and the interface of instances. Each views module lists its own."""

from django.urls import URLPattern

from runs import api
from runs.views import (
    chart_view,
    compare,
    models,
    projects,
    retention,
    run_bulk,
    run_chart,
    run_create,
    run_log_errors,
    run_log_file,
    run_logs,
    run_models,
    run_page,
    run_timeline,
)

urlpatterns: list[URLPattern] = [
    *projects.urlpatterns,
    *retention.urlpatterns,
    *run_bulk.urlpatterns,
    *run_create.urlpatterns,
    *compare.urlpatterns,
    *run_page.urlpatterns,
    *run_logs.urlpatterns,
    *run_log_errors.urlpatterns,
    *run_models.urlpatterns,
    *run_log_file.urlpatterns,
    *run_chart.urlpatterns,
    *chart_view.urlpatterns,
    *run_timeline.urlpatterns,
    *models.urlpatterns,
    *api.urlpatterns,
]
