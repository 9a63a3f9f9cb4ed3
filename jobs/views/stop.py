from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from jobs.access import require_ops
from jobs.freeze_forms import ResumeForm, StopForm
from jobs.models import Freeze, FreezeMoved
from jobs.views.not_taken import too_late


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def stop_world(request):
    """The switch of ops: no release of any business begins on another machine until it is turned back."""
    require_ops(request.user)
    form = StopForm(request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return _show(request, stop_form=form)
    return _turn(request, Freeze.objects.stop_world, form, _("Stopped: no release begins on another machine."))


@login_required
@require_POST
def resume_world(request):
    require_ops(request.user)
    form = ResumeForm(request.POST)
    if not form.is_valid():
        return _show(request, resume_form=form)
    return _turn(request, Freeze.objects.resume_world, form, _("The stop is ended: what waits goes on."))


def _show(request, stop_form=None, resume_form=None):
    lately = Freeze.objects.filter(kind=Freeze.Kind.STOP).exclude(ended_at=None).select_related("made_by", "ended_by")
    forms = {"stop_form": stop_form or StopForm(), "resume_form": resume_form or ResumeForm()}
    return render(request, "jobs/stop.html", forms | {"lately": lately[:10]})


def _turn(request, step, form, done):
    reason = form.cleaned_data["reason"]
    try:
        step(request.user, reason)
    except FreezeMoved as conflict:
        return too_late(request, conflict, reason, reverse("stop_world"))
    messages.success(request, done)
    return redirect("stop_world")
