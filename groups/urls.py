"""URLs of groups, collaborators and invitations."""

from groups import join, views

urlpatterns = [*views.urlpatterns, *join.urlpatterns]
