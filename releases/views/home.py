from django.contrib.auth.decorators import login_required
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django_htmx.http import trigger_client_event

from jobs.models import Business, Freeze, Notice
from jobs.rights import Right
from jobs.views.query import business_by_slug
from releases.overview import SHOWN, asked_for, ended_lately, out_yet, running_now, waiting_for
from releases.tidying import tidy_if_alone


@login_required
@require_safe
def home(request):
    tidy_if_alone()
    user = request.user
    seen, business, looked_at = _businesses(request)
    waiting, asked = waiting_for(user, looked_at), asked_for(user, looked_at)
    freezes = Freeze.objects.windows().select_related("business")
    notices = Notice.objects.open_for(user).filter(job__business__in=looked_at)
    context = {
        "businesses": seen,
        "may_ask_for": Business.objects.where(user, Right.CREATE),
        "freezes": (freezes.of(business) if business else freezes.seen_by(user)).ahead(),
        "notices": notices.select_related("job__business", "by"),
        "waiting": waiting[:SHOWN],
        "more_waits": len(waiting) > SHOWN,
        "asked_for": asked[:SHOWN],
        "more_asked_for": len(asked) > SHOWN,
        "ended": ended_lately(looked_at),
        "out_yet": out_yet(looked_at),
    }
    return render(request, "releases/home.html", context | _running(business, looked_at))


@login_required
@require_safe
def running(request):
    """What an open home page asks for again and again; once other runs go on, it asks for the rest of itself, too."""
    tidy_if_alone()
    _seen, business, looked_at = _businesses(request)
    context = _running(business, looked_at)
    response = render(request, "releases/_running.html", context)
    if request.GET.get("seen") != context["seen"]:
        trigger_client_event(response, "runs-changed")
    return response


def _businesses(request):
    """All that the person sees, the one of them that `?business=` names or None, and those that are looked at."""
    seen = Business.objects.where(request.user, Right.VIEW)
    slug = request.GET.get("business")
    business = business_by_slug(seen, slug) if slug else None
    return seen, business, seen.filter(pk=business.pk) if business else seen


def _running(business, looked_at):
    """The runs that go on; which they are, and of which business alone, the page says when it asks again."""
    runs = running_now(looked_at)
    return {"business": business, "running": runs, "seen": "-".join(str(run.pk) for run in runs)}
