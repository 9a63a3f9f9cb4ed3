"""Look-up and permission in one line: outsiders get 404, members without the right get 403 and are told which."""

from django.shortcuts import get_object_or_404

from jobs.models import Job
from jobs.rights import Right


def get_job(user, job_id, right=Right.VIEW):
    job = get_object_or_404(Job.objects.seen_by(user).select_related("business", "requester", "approver"), pk=job_id)
    job.require(user, right)
    return job
