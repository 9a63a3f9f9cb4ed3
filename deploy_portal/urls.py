from django.conf import settings
from django.contrib import admin
from django.urls import include, path, register_converter

from deploy_portal.converters import PkConverter
from deploy_portal.views.account import account, change_password, second_factor, sign_out_elsewhere
from deploy_portal.views.health import health
from deploy_portal.views.login import LogIn, LogInCode, log_out

register_converter(PkConverter, "pk")

handler400 = "deploy_portal.views.errors.bad_request"
handler500 = "deploy_portal.views.errors.server_error"

urlpatterns = [
    path("", include("releases.urls")),
    path("", include("jobs.urls")),
    path("login/", LogIn.as_view(), name="login"),
    path("login/code/", LogInCode.as_view(), name="login_code"),
    path("logout/", log_out, name="logout"),
    path("account/", account, name="account"),
    path("account/password/", change_password, name="change_password"),
    path("account/second-factor/", second_factor, name="second_factor"),
    path("account/sign-out/", sign_out_elsewhere, name="sign_out_elsewhere"),
    path("health/", health, name="health"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
]

if "OIDC_RP_CLIENT_ID" in settings.OTHER_LOGINS:
    urlpatterns.append(path("login/oidc/", include("deploy_portal.oidc_login")))
