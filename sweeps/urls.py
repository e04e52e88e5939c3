"""URLs of sweeps."""

from sweeps.views import urlpatterns

__all__ = ["urlpatterns"]
