"""URLs of devices: pages, and the interface of agents."""

from django.urls import path

from devices import api, bulk, views

urlpatterns = [
    path("devices/", views.device_list, name="device_list"),
    path("devices/unbind/", bulk.devices_unbind, name="devices_unbind"),
    path("devices/bind/", views.device_bind, name="device_bind"),
    path("devices/bind/<int:code_id>/", views.device_bind_progress, name="device_bind_progress"),
    path("devices/<int:device_id>/", views.device_detail, name="device_detail"),
    path("devices/<int:device_id>/rename/", views.device_rename, name="device_rename"),
    path("devices/<int:device_id>/rotate/", views.device_rotate, name="device_rotate"),
    path("devices/<int:device_id>/unbind/", views.device_unbind, name="device_unbind"),
    path("api/edge/enrol", api.edge_enrol, name="edge_enrol"),
    path("api/edge/rotate", api.edge_rotate, name="edge_rotate"),
    path("api/edge/packages/<str:sha256>", api.edge_package, name="edge_package"),
    path("edge/agent.tar.gz", api.edge_archive, name="edge_archive"),
    path("healthz", api.healthz, name="healthz"),
]
