from django.contrib.auth.decorators import login_required
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django_htmx.http import trigger_client_event

from jobs.models import Business, Freeze, Notice
from jobs.rights import Right
from releases.overview import SHOWN, asked_for, ended_lately, out_yet, running_now, waiting_for
from releases.tidying import tidy_if_alone


@login_required
@require_safe
def home(request):
    tidy_if_alone()
    waiting, asked = waiting_for(request.user), asked_for(request.user)
    context = {
        "may_ask": Business.objects.where(request.user, Right.CREATE).exists(),
        "freezes": Freeze.objects.windows().seen_by(request.user).select_related("business").ahead(),
        "notices": Notice.objects.open_for(request.user).select_related("job__business", "by"),
        "waiting": waiting[:SHOWN],
        "more_waits": len(waiting) > SHOWN,
        "asked_for": asked[:SHOWN],
        "more_asked_for": len(asked) > SHOWN,
        "ended": ended_lately(request.user),
        "out_yet": out_yet(request.user),
    }
    return render(request, "releases/home.html", context | _running(request.user))


@login_required
@require_safe
def running(request):
    """What an open home page asks for again and again; once other runs go on, it asks for the rest of itself, too."""
    tidy_if_alone()
    context = _running(request.user)
    response = render(request, "releases/_running.html", context)
    if request.GET.get("seen") != context["seen"]:
        trigger_client_event(response, "runs-changed")
    return response


def _running(user):
    """The runs that go on, and which they are as the page says when it asks again."""
    runs = running_now(user)
    return {"running": runs, "seen": "-".join(str(run.pk) for run in runs)}
