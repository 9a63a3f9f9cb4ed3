"""What an attack on a session needs of a server, beside the pages of the portal or of stock Django."""

import secrets
from threading import Event

from django.contrib.auth import views
from django.http import HttpResponse
from django.urls import include, path

from tests.waiting import PATIENCE

ENTERED, LEAVE = Event(), Event()


def who(request):
    return HttpResponse(request.user.get_username())


def slow(request):
    """Writes the session of its request, as the stage page does, and answers only when it is told to."""
    request.session["job_id"] = 1
    ENTERED.set()
    return HttpResponse("at last" if LEAVE.wait(PATIENCE) else "never told")


def fill(request):
    request.session["text"] = secrets.token_hex(int(request.GET["bytes"]) // 2)
    return HttpResponse("kept")


def expire_soon(request):
    request.session.set_expiry(60)
    return HttpResponse("for a minute")


OURS = [path("who/", who), path("slow/", slow), path("fill/", fill), path("expire-soon/", expire_soon)]
STOCK = [
    path("login/", views.LoginView.as_view(template_name="registration/login.html")),
    path("logout/", views.LogoutView.as_view()),
]
urlpatterns = [*OURS, path("", include("deploy_portal.urls"))]


class stock:
    """The same with Django's own login and logout: a URLconf may be any object that has `urlpatterns`."""

    urlpatterns = [*OURS, *STOCK, path("", include("deploy_portal.urls"))]
