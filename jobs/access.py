"""Look-up and permission in one line: outsiders get 404, members without the right get 403 and are told which."""

from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _

from jobs.models import Approval, Job
from jobs.rights import Right


def get_job(user, job_id, right=Right.VIEW):
    """The job, with `rights`: what `user` may do with it."""
    approvals = Prefetch("approvals", Approval.objects.select_related("by"))
    jobs = Job.objects.seen_by(user).select_related("business", "requester").prefetch_related(approvals)
    job = get_object_or_404(jobs, pk=job_id)
    job.lapse()
    job.rights = job.require(user, right)
    return job


def sees_job(user, job_id):
    """Whether `user` may see that job; no other is read for it."""
    return Job.objects.seen_by(user).filter(pk=job_id).exists()


def require_ops(user):
    if not user.is_ops:
        raise PermissionDenied(_("This switch is for ops."))
