"""URLs of packages and configurations."""

from django.urls import path

from configurations import uploads, views

urlpatterns = [
    path("", views.configuration_list, name="configuration_list"),
    path("new/", views.configuration_create_view, name="configuration_create"),
    path("draft/", views.configuration_draft, name="configuration_draft"),
    path("preview/", views.configuration_preview, name="configuration_preview"),
    path("packages/", uploads.package_upload, name="package_upload"),
    path("data/", uploads.data_upload, name="configuration_data_upload"),
    path("<int:pk>/", views.configuration_detail, name="configuration_detail"),
    path("<int:pk>/edit/", views.configuration_edit, name="configuration_edit"),
    path("<int:pk>/clone/", views.configuration_clone, name="configuration_clone"),
    path("<int:pk>/delete/", views.configuration_delete_view, name="configuration_delete"),
]
