import codecs
import encodings
import logging
from urllib.parse import quote

from django.conf import settings
from django.core.exceptions import BadRequest
from django.db import Error
from django.http import HttpResponse, HttpResponseBadRequest, UnreadablePostError
from django.shortcuts import redirect, render, resolve_url
from django.urls import reverse
from django.utils.translation import gettext as _

from deploy_portal import origin, sessions
from deploy_portal.database import is_away, is_clash, is_of_another_version

log = logging.getLogger(__name__)

# Browsers drop a cookie above 4,096 bytes and go on sending the old one: the session would silently stop changing.
SESSION_COOKIE_LIMIT = 3500
# More names of encodings than anybody uses; Python keeps each that it was ever asked for, also where there is none.
ENCODINGS_KEPT = 500
WITHOUT_SECOND_FACTOR = {
    "login",
    "login_code",
    "oidc_authentication_init",
    "oidc_authentication_callback",
    "logout",
    "admin:logout",
    "set_language",
    "health",
    "account",
    "change_password",
    "second_factor",
    "sign_out_elsewhere",
}

# On every answer, also where a middleware within refused the request. What another one said stays.
CLOSED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",  # static files say otherwise
}


def closed_headers(get_response):
    def middleware(request):
        response = get_response(request)
        for name, value in CLOSED.items():
            response.headers.setdefault(name, value)
        return response

    return middleware


def forms_in_utf8(get_response):
    """Refuses a form in another encoding. Django would too, but its page that says so reads the form again: a 500."""

    def middleware(request):
        if len(encodings._cache) > ENCODINGS_KEPT:  # by now Django has asked for the one that the request names
            encodings._cache.clear()
        if request.encoding and codecs.lookup(request.encoding).name != "utf-8":
            return HttpResponseBadRequest(_("Send forms in UTF-8."), content_type="text/plain; charset=utf-8")
        request.encoding = "utf-8"  # not "utf8" or "UTF_8", which Django would refuse
        _read_form(request)
        return get_response(request)

    return middleware


def _read_form(request):
    """Has what cannot be read refused as such: the page of a 404 would be the first to read it, and end as a 500."""
    try:
        return request.POST
    except UnreadablePostError:  # who sent it is gone
        return None
    except TypeError as error:  # of Python, for what no header of a part has in earnest
        raise BadRequest("A part of the form has a header that cannot be read.") from error


def request_origin(get_response):
    def middleware(request):
        part = "admin" if request.path.startswith(reverse("admin:index")) else "page"
        with origin.set_to(f"{part} from {origin.address_of(request)}"):
            return get_response(request)

    return middleware


def bounded_session(get_response):
    def middleware(request):
        response = get_response(request)
        if request.session.modified and len(request.session._get_session_key()) > SESSION_COOKIE_LIMIT:
            log.error("A session above %s bytes was refused for %s", SESSION_COOKIE_LIMIT, request.path)
            # With a 503 Django keeps no session.
            return _unavailable(request, _("This page tried to keep too much in your session."))
        return response

    return middleware


def aged_session(get_response):
    def middleware(request):
        is_poll = "HX-Request" in request.headers
        if not sessions.is_over(request.session):
            if not is_poll:  # else a page that is only left open would never be idle
                sessions.note_activity(request.session)
            response = get_response(request)
            # Who signed out elsewhere meanwhile has sent what they typed to nobody.
            is_unsent = request.method == "POST" and _leads_back(response, request)
            return _say_that_it_ended(request, response) if is_unsent else response
        if is_poll:
            # The whole page loads again, and is then told why it leads to the login.
            return HttpResponse(status=401, headers={"HX-Refresh": "true"})
        request.session.flush()
        return _say_that_it_ended(request, get_response(request))

    return middleware


def required_second_factor(get_response):
    """Who must have a second factor and did not log in by one comes no further than to where it is set up."""

    def middleware(request):
        return get_response(request)

    def process_view(request, view, args, kwargs):
        if not settings.REQUIRE_SECOND_FACTOR or request.resolver_match.view_name in WITHOUT_SECOND_FACTOR:
            return None
        if request.session.get(sessions.SECOND_FACTOR):
            return None
        try:
            is_lacking = request.user.is_authenticated and request.user.must_have_second_factor()
        except Error as error:
            if response := database_unusable(request, error):
                return response
            raise
        return redirect("second_factor") if is_lacking else None

    middleware.process_view = process_view
    return middleware


def busy_database(get_response):
    def middleware(request):
        return get_response(request)

    def process_exception(request, exception):
        if is_clash(exception):
            return _clashed(request, exception)
        return database_unusable(request, exception, has_begun=request.method == "POST")

    middleware.process_exception = process_exception
    return middleware


def wrong_method(get_response):
    """Leads whoever opened an address that is only posted to on to its button; Django's own answer is a blank page."""

    def middleware(request):
        response = get_response(request)
        if response.status_code != 405:
            return response
        page = render(request, "405.html", status=405)
        page["Allow"] = response["Allow"]
        page._has_been_logged = True  # as Django marks the answer that this one stands for
        return page

    return middleware


def _leads_back(response, request):
    """Whether it is a redirect to a login that then comes back to this address."""
    return f"?next={quote(request.path)}" in response.get("Location", "")


def _say_that_it_ended(request, response):
    """Adds to a redirect to the login page why it is one, and whether something that was sent is lost."""
    location = response.get("Location", "")
    if location.startswith(f"{resolve_url(settings.LOGIN_URL)}?"):
        response["Location"] += "&ended=" + ("unsent" if request.method == "POST" else "age")
    return response


def database_unusable(request, error, has_begun=False):
    """The page that says why the database cannot be used; None when that is not what the error means.

    With `has_begun` something may have been changed: a commit may have been done whose answer was lost.
    """
    is_of_another = is_of_another_version(error)
    if is_of_another:
        reason = _(
            "The database is of another version than the portal. Nothing was changed. "
            "Ops: run manage.py migrate, or start the newer portal."
        )
    elif is_away(error) and has_begun:
        reason = _(
            "The database is busy or being restarted. What you sent may have been done all the same: "
            "look before you send it again."
        )
    elif is_away(error):
        reason = _("The database is busy or being restarted. Nothing was changed.")
    else:
        return None
    # With its traceback, should it be a fault of the code's own.
    log.warning("Database not usable for %s: %s", request.path, error, exc_info=error if is_of_another else None)
    return _unavailable(request, reason)


def _clashed(request, error):
    """The page for what was right when it was checked and what the database then refused; no step is done by half."""
    log.error("The database refused what %s wrote: %s", request.path, error, exc_info=error)
    response = render(request, "409.html", status=409)
    response._has_been_logged = True
    return response


def _unavailable(request, reason):
    response = render(request, "503.html", {"reason": reason}, status=503)
    response["Retry-After"] = "5"
    return response
