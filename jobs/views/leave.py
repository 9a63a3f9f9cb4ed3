from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from jobs.access import get_job
from jobs.freeze_forms import LeaveForm
from jobs.models import JobMoved, Leave
from jobs.rights import Right
from jobs.views.not_taken import too_late


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def give_leave(request, job_id):
    job = get_job(request.user, job_id, Right.APPROVE)
    form = LeaveForm(request.POST if request.method == "POST" else None, job=job)
    if not form.is_valid():
        return render(request, "jobs/leave.html", {"job": job, "form": form})
    reason = form.cleaned_data["reason"]
    job.revision = form.cleaned_data["revision"] or job.revision
    try:
        Leave.objects.give(job, request.user, form.cleaned_data["occurrence"], reason)
    except JobMoved as conflict:
        return too_late(request, conflict, reason, reverse("job", args=[job.pk]), job)
    messages.success(request, _("Leave given: others can start this job, and what waits of it goes on."))
    return redirect("job", job.pk)
