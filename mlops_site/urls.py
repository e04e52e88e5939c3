"""Every URL of the platform, one include an app."""

from django.urls import include, path

urlpatterns = [
    path("", include("accounts.urls")),
    path("", include("runs.urls")),
    path("configurations/", include("configurations.urls")),
    path("", include("devices.urls")),
    path("", include("health.urls")),
    path("", include("api.urls")),
    path("", include("alerts.urls")),
    path("", include("exports.urls")),
    path("", include("sweeps.urls")),
    path("", include("groups.urls")),
    path("", include("registry.urls")),
]
