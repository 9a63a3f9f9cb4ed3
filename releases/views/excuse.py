from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_http_methods

from jobs.access import get_job
from jobs.columns import Columns
from jobs.machine_list import Lean, MachineList, Mark, Note
from jobs.models import JobMoved
from jobs.rights import Right
from jobs.views.not_taken import too_late
from releases.candidates import candidates, left_to_do
from releases.forms import ExcuseForm
from releases.models import MachinesHeld, ReleaseStage


@gzip_page
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def excuse_machines(request, job_id):
    """Lets a job be done without machines that it cannot, or need not, release; with a reason."""
    job = get_job(request.user, job_id, Right.PUBLISH)
    left = left_to_do(job, candidates(job, request.user))
    form = ExcuseForm(request.POST if request.method == "POST" else None, job=job, left=left)
    if "list" in request.POST:  # from a page without scripts: another page of its list
        form.errors.clear()
    elif form.is_bound and (answer := _excuse(request, job, form)):
        return answer
    context = {"job": job, "form": form, "list": _listed(form, left, request.POST.get("list"))}
    return render(request, "releases/excuse.html", context)


def _excuse(request, job, form):
    """Excuses what was chosen and says so, the second time as well; None when the form has to be shown again."""
    try:
        if form.is_valid():
            ReleaseStage.objects.excuse(job, form.cleaned_data["machines"], request.user, form.cleaned_data["reason"])
        elif not form.asks_for_what_is(request.user):
            return None
    except (JobMoved, MachinesHeld) as conflict:
        if not form.asks_for_what_is(request.user):
            page = reverse("excuse_machines", args=[job.pk])
            return too_late(request, conflict, form.cleaned_data["reason"], page, job)
    messages.success(request, _("Excused: the job is done without them."))
    return redirect("job", job.pk)


def _listed(form, left, page):
    wrong = {candidate.machine.pk for candidate in left if candidate.went_wrong}
    return MachineList(
        machines=Columns.of_rows([candidate.machine for candidate in left], *Lean._fields),
        chosen={"machines": form["machines"].value()},
        versions={candidate.machine.pk: candidate.machine.now_on for candidate in left},
        notes={candidate.machine.pk: _note(candidate) for candidate in left if candidate.last or not candidate.is_free},
        marks={"wrong": Mark(_("Went wrong %(n)s"), wrong)},
        asked_page=page,
        is_sorted=True,
    )


def _note(candidate):
    """How it ended on the machine, and why it cannot be released now."""
    last, words = candidate.last, "" if candidate.is_free else candidate.why_not
    return Note(last.status, last.get_status_display(), words) if last else Note(words=words)
