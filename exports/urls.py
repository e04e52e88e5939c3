"""URLs of exports."""

from exports.views import urlpatterns

__all__ = ["urlpatterns"]
