"""URLs of the API, its reference page, and the page of access tokens."""

from django.urls import include, path, re_path

from api import views
from api.application import api, api_urls

urlpatterns = [
    path("api/v1/openapi.json", views.openapi, name="api_schema"),
    path("api/v1/docs/", views.reference, name="api_reference"),
    path("api/v1/", include((api_urls(api), "api"))),
    re_path(r"^api/v1/", views.unknown),
    path("account/tokens/", views.token_list, name="token_list"),
    path("account/tokens/<int:token_id>/revoke/", views.token_revoke, name="token_revoke"),
]
