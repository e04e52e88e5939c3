"""URLs of alerts."""

from alerts.views import urlpatterns

__all__ = ["urlpatterns"]
