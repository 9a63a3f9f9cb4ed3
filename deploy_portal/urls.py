from django.conf import settings
from django.contrib import admin
from django.urls import include, path, register_converter

from deploy_portal import account, views
from deploy_portal.converters import PkConverter

register_converter(PkConverter, "pk")

urlpatterns = [
    path("", include("releases.urls")),
    path("", include("jobs.urls")),
    path("login/", views.LogIn.as_view(), name="login"),
    path("login/code/", views.LogInCode.as_view(), name="login_code"),
    path("logout/", views.log_out, name="logout"),
    path("account/", account.account, name="account"),
    path("account/password/", account.change_password, name="change_password"),
    path("account/second-factor/", account.second_factor, name="second_factor"),
    path("account/sign-out/", account.sign_out_elsewhere, name="sign_out_elsewhere"),
    path("health/", views.health, name="health"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
]

if "OIDC_RP_CLIENT_ID" in settings.ELSEWHERE:
    urlpatterns.append(path("login/oidc/", include("deploy_portal.oidc_login")))
