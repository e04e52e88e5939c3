"""URLs of the health page and of the metrics."""

from django.urls import path

from health import views

urlpatterns = [
    path("health/", views.health, name="health"),
    path("health/checks/<str:name>/", views.health_check, name="health_check"),
    path("metrics", views.metrics, name="metrics"),
]
