from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.http import HttpResponseBadRequest, HttpResponseServerError
from django.template.loader import render_to_string
from django.views.decorators.csrf import requires_csrf_token


@requires_csrf_token
def bad_request(request, exception):
    """Django's own page would not tell who sent too much from who sent nonsense."""
    is_too_much = isinstance(exception, RequestDataTooBig | TooManyFieldsSent)
    return HttpResponseBadRequest(render_to_string("400.html", {"request": request, "is_too_much": is_too_much}))


@requires_csrf_token
def server_error(request):
    """Django's own gives its page no request to lead back from. No context processor runs: it may be what broke."""
    return HttpResponseServerError(render_to_string("500.html", {"request": request}))
