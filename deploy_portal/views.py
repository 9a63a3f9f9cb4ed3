from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.views import LoginView
from django.db import Error, connection
from django.http import JsonResponse
from django.shortcuts import redirect
from django.urls import Resolver404, resolve, reverse
from django.views.decorators.http import require_GET, require_POST

# Steps that are only posted, and the page that has the button for each.
BUTTON_ON = {
    "approve_job": "job",
    "withdraw_job": "job",
    "skip_stage": "stage",
    "pause_run": "job",
    "resume_run": "job",
    "resolve_machine_run": "machine_run",
    "logout": "home",
}


class LogIn(LoginView):
    redirect_authenticated_user = True

    def get_redirect_url(self):
        """Where the person was going; one whose session ended before a step goes to the page that has its button."""
        path = super().get_redirect_url()
        found = _resolved(path)
        if found and found.url_name in BUTTON_ON:
            page = BUTTON_ON[found.url_name]
            where = {"job_id": found.kwargs["job_id"]} if page == "job" else found.kwargs
            return reverse(page, kwargs=where)
        return path

    def get_context_data(self, **kwargs):
        return super().get_context_data(
            tries_left=self._tries_left(),
            next_name=_name_of(self.get_redirect_url()),
            ended=self.request.GET.get("ended"),
            **kwargs,
        )

    def _tries_left(self):
        tries = AccessAttempt.objects.filter(
            username=login_name(self.request), ip_address=self.request.META.get("REMOTE_ADDR")
        )
        return settings.AXES_FAILURE_LIMIT - sum(tries.values_list("failures_since_start", flat=True))


def login_name(request, credentials=None):
    """The name that someone tries to log in by, as PostgreSQL can hold it: axes keeps every try."""
    return ((credentials or request.POST).get("username") or "").replace("\0", "")[:255]


@require_POST
def log_out(request):
    logout(request)
    return redirect("login")


@require_GET
def health(request):
    """For load balancers: 200 when this process can answer from the database, else 503."""
    try:
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return JsonResponse({"database": "away"}, status=503)
    return JsonResponse({"database": "ok"})


def _name_of(path):
    """What a person knows the page at `path` by: its job, and its stage if it has one."""
    found = _resolved(path)
    where = found.kwargs if found else {}
    return " ".join([f"#{where['job_id']}", where.get("kind", "")]).strip() if "job_id" in where else ""


def _resolved(path):
    try:
        return resolve(path) if path else None
    except Resolver404:
        return None
