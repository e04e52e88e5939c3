"""Wiring of the platform: settings, URLs, ASGI, Celery and system checks."""

from mlops_site.celery import app as celery_app

__all__ = ["celery_app"]
