"""URLs of the registry and of lineage."""

from registry.views import lineage, registry

urlpatterns = [*registry.urlpatterns, *lineage.urlpatterns]
