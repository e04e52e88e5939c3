from django.apps import AppConfig


class HealthConfig(AppConfig):
    """Whether the installation works: checks, a page, a command, and metrics."""

    name = "health"
