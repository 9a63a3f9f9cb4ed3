from django.contrib import admin
from django.urls import include, path, register_converter

from deploy_portal import views
from deploy_portal.converters import PkConverter

register_converter(PkConverter, "pk")

urlpatterns = [
    path("", include("releases.urls")),
    path("", include("jobs.urls")),
    path("login/", views.LogIn.as_view(), name="login"),
    path("logout/", views.log_out, name="logout"),
    path("health/", views.health, name="health"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
]
