import logging

from django.db import InterfaceError, OperationalError
from django.shortcuts import render
from django.utils.translation import gettext as _

from deploy_portal import origin

log = logging.getLogger(__name__)

# Browsers drop a cookie above 4,096 bytes and go on sending the old one: the session would silently stop changing.
SESSION_COOKIE_LIMIT = 3500


def request_origin(get_response):
    def middleware(request):
        token = origin.enter(request.META.get("REMOTE_ADDR", ""))
        try:
            return get_response(request)
        finally:
            origin.leave(token)

    return middleware


def bounded_session(get_response):
    def middleware(request):
        response = get_response(request)
        if request.session.modified and len(request.session._get_session_key()) > SESSION_COOKIE_LIMIT:
            request.session.modified = False
            log.error("A session above %s bytes was refused for %s", SESSION_COOKIE_LIMIT, request.path)
            return _unavailable(request, _("This page tried to keep too much in your session."))
        return response

    return middleware


def busy_database(get_response):
    def middleware(request):
        return get_response(request)

    def process_exception(request, exception):
        if isinstance(exception, InterfaceError | OperationalError):
            log.warning("Database not available for %s: %s", request.path, exception)
            return _unavailable(request, _("The database is busy or being restarted. Nothing was changed."))
        return None

    middleware.process_exception = process_exception
    return middleware


def _unavailable(request, reason):
    response = render(request, "503.html", {"reason": reason}, status=503)
    response["Retry-After"] = "5"
    return response
