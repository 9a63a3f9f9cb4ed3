from django.http import HttpResponseServerError
from django.template.loader import render_to_string
from django.views.decorators.csrf import requires_csrf_token


@requires_csrf_token
def server_error(request):
    """Django's own gives its page no request to lead back from. No context processor runs: it may be what broke."""
    return HttpResponseServerError(render_to_string("500.html", {"request": request}))
