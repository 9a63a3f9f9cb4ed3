"""How often a person may change something, and an address try to log in. What is only read is never limited."""

from django.conf import settings
from django.db import Error
from django.shortcuts import render

from deploy_portal import origin
from deploy_portal.middleware import database_unusable
from deploy_portal.models import Quota

LOGINS = {"login", "login_code", "admin:login"}
# What stops or takes back is never refused by a limit: somebody in a hurry presses often.
NEVER_LIMITED = {
    "cancel_run",
    "pause_run",
    "roll_back_job",
    "roll_back_stage",
    "stop_world",
    "logout",
    "admin:logout",
    "sign_out_elsewhere",
    "set_language",
}


def limited_writes(get_response):
    def middleware(request):
        return get_response(request)

    def process_view(request, view, args, kwargs):
        try:
            who, limit = _limit(request)
            seconds = Quota.objects.take(who, limit) if limit else 0
        except Error as error:
            if response := database_unusable(request, error):
                return response
            raise
        return _too_many(request, seconds) if seconds else None

    middleware.process_view = process_view
    return middleware


def _limit(request):
    """Who is counted, and the limit per minute; 0 is none."""
    name = request.resolver_match.view_name
    if request.method in ("GET", "HEAD", "OPTIONS", "TRACE") or name in NEVER_LIMITED:
        return "", 0
    if name in LOGINS:
        return f"login from {origin.address_of(request)}", settings.LOGINS_PER_MINUTE
    return f"write by {request.user.pk}", (settings.WRITES_PER_MINUTE if request.user.is_authenticated else 0)


def _too_many(request, seconds):
    """Says when to come back, with what was typed in a form that sends it again; never a password or a code."""
    is_login = request.resolver_match.view_name in LOGINS
    sent = [(name, value) for name, values in request.POST.lists() for value in values]
    secret = is_login or any("password" in name or name == "code" for name, _ in sent)
    context = {"seconds": seconds, "sent": [] if secret else sent, "again": request.get_full_path()}
    response = render(request, "429.html", context, status=429)
    response.headers["Retry-After"] = str(seconds)
    return response
