from axes.models import AccessAttempt
from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.views import LoginView
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_POST

from deploy_portal import sessions
from deploy_portal.forms import UseCodeForm
from deploy_portal.ways_back import page_with_button, resolved

# A login leads on to neither of them.
OWN_PAGES = {"login", "login_code"}


class LogIn(LoginView):
    redirect_authenticated_user = True

    def form_valid(self, form):
        return let_in(self.request, form.get_user(), self.get_redirect_url()) or super().form_valid(form)

    def get_redirect_url(self):
        return way_on(super().get_redirect_url())

    def get_context_data(self, **kwargs):
        context = super().get_context_data(
            next_name=_name_of(self.get_redirect_url()),
            ended=self.request.GET.get("ended"),
            is_refused="refused" in self.request.GET,
            has_provider="OIDC_RP_CLIENT_ID" in settings.OTHER_LOGINS,
            **kwargs,
        )
        return context | {"tries_left": self._tries_left(context["form"])}

    def _tries_left(self, form):
        name = login_name(self.request, self.credentials(form))
        tries = AccessAttempt.objects.filter(username=name, ip_address=client_address(self.request))
        return settings.AXES_FAILURE_LIMIT - sum(tries.values_list("failures_since_start", flat=True))

    def credentials(self, form):
        """What was tried, as axes counts it: the form takes blanks off a name, and other widths of its letters."""
        return getattr(form, "cleaned_data", None)


class LogInCode(LogIn):
    """The second step, for who has a second factor."""

    template_name = "registration/code.html"
    form_class = UseCodeForm

    def dispatch(self, request, *args, **kwargs):
        self.person = sessions.half_way(request.session)
        if not self.person and not request.user.is_authenticated:
            return redirect(f"{reverse('login')}?{urlencode({'next': self.get_redirect_url(), 'ended': 'age'})}")
        return super().dispatch(request, *args, **kwargs)

    def get_form_kwargs(self):
        return super().get_form_kwargs() | {"user": self.person}

    def form_valid(self, form):
        del self.request.session[sessions.HALF_WAY]
        response = super(LogIn, self).form_valid(form)
        self.request.session[sessions.SECOND_FACTOR] = True
        return response

    def credentials(self, form):
        return {"username": self.person.get_username()}


def let_in(request, user, page):
    """The way to the second step, for who has shown who they are and has a second factor; None without one."""
    if not user.second_factor:
        return None
    sessions.go_half_way(request.session, user)
    return redirect(f"{reverse('login_code')}?{urlencode({'next': page})}")


def way_on(address):
    """Where the person was going; one whose session ended before a step goes to the page that has its button."""
    page = page_with_button(address)
    found = resolved(page)
    return reverse("home") if found and found.url_name in OWN_PAGES else page


def client_address(request):
    """What axes counts a try under: without an address it would never find one again."""
    return request.META.get("REMOTE_ADDR") or "127.0.0.1"


def login_name(request, credentials=None):
    """The name that someone tries to log in by, as PostgreSQL can hold it: axes keeps every try."""
    return ((credentials or request.POST).get("username") or "").replace("\0", "")[:255]


def is_back_from_provider(request, credentials=None):
    return request.resolver_match.view_name == "oidc_authentication_callback"


@require_POST
def log_out(request):
    logout(request)
    return redirect("login")


def _name_of(path):
    """What a person knows the page at `path` by: its job, and its stage if it has one."""
    found = resolved(path)
    where = found.kwargs if found else {}
    return " ".join([f"#{where['job_id']}", where.get("kind", "")]).strip() if "job_id" in where else ""
