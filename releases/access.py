"""Look-up of a run with the permission to steer it, in one line."""

from django.shortcuts import get_object_or_404

from jobs.access import get_job
from jobs.rights import Right
from releases.models import Run


def get_run(user, run_id, job_id=None, right=Right.PUBLISH):
    """The run with this id, of this job if one is named: 404 for a stranger, 403 for a member without `right`."""
    runs = Run.objects.select_related("stage")
    run = get_object_or_404(runs if job_id is None else runs.filter(stage__job=job_id), pk=run_id)
    run.stage.job = get_job(user, run.stage.job_id, right)
    return run
