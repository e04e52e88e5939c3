"""Sign-in, the own account and the home page."""

from django.urls import path

from accounts import views
from accounts.palette import palette

urlpatterns = [
    path("", views.home, name="home"),
    path("find/", palette, name="palette"),
    path("first-steps/dismiss/", views.steps_dismiss, name="steps_dismiss"),
    path("login/", views.Login.as_view(), name="login"),
    path("logout/", views.log_out, name="logout"),
    path("account/", views.account, name="account"),
    path("account/password/", views.ChangePassword.as_view(), name="password_change"),
]
