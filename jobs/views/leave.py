from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from jobs.access import get_job
from jobs.freeze_forms import LeaveForm
from jobs.models import JobMoved, Leave
from jobs.rights import Right


@login_required
@require_http_methods(["GET", "POST"])
def give_leave(request, job_id):
    job = get_job(request.user, job_id, Right.APPROVE)
    form = LeaveForm(request.POST if request.method == "POST" else None, job=job)
    if not form.is_valid():
        return render(request, "jobs/leave.html", {"job": job, "form": form})
    try:
        Leave.objects.give(job, request.user, form.cleaned_data["occurrence"], form.cleaned_data["reason"])
        messages.success(request, _("Leave given: others can start this job, and what waits of it goes on."))
    except JobMoved as moved:
        messages.error(request, str(moved))
    return redirect("job", job.pk)
