from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from jobs.access import get_job
from jobs.models import JobMoved
from jobs.rights import Right
from releases.candidates import left_to_do
from releases.forms import ExcuseForm
from releases.models import MachinesHeld, ReleaseStage


@login_required
@require_http_methods(["GET", "POST"])
def excuse_machines(request, job_id):
    """Lets a job be done without machines that it can not, or need not, release; with a reason."""
    job = get_job(request.user, job_id, Right.PUBLISH)
    left = left_to_do(job)
    form = ExcuseForm(request.POST if request.method == "POST" else None, left=left)
    if form.is_valid():
        try:
            ReleaseStage.objects.excuse(job, form.cleaned_data["machines"], request.user, form.cleaned_data["reason"])
        except (JobMoved, MachinesHeld) as conflict:
            messages.error(request, str(conflict))
            return redirect("excuse_machines", job.pk)
        messages.success(request, _("Excused: the job is done without them."))
        return redirect("job", job.pk)
    context = {
        "job": job,
        "left": left,
        "wrong": sum(candidate.went_wrong for candidate in left),
        "form": form,
        "chosen": form["machines"].value(),
    }
    return render(request, "releases/excuse.html", context)
