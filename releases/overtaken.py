"""What other jobs have put on a job's machines since."""

from collections import Counter

from jobs.models import Job
from releases.models import MachineRun


def overtaken(picture, tiles):
    """[(job, version, number)]: the other jobs that have put another version on so many of these, the latest first.

    They are of the same business: who sees the one job sees them.
    """
    since = Counter((tile.put_by, tile.version) for tile in tiles if _is_overtaken(picture, tile))
    jobs = Job.objects.select_related("business").in_bulk({pk for pk, _version in since})
    return [(jobs[pk], version, number) for (pk, version), number in sorted(since.items(), reverse=True)]


def _is_overtaken(picture, tile):
    """By a later job; or by an earlier one, if that ran after this one had put its own version there."""
    job, ran = picture.job, picture.touched.get(tile.machine_id)
    if tile.status == "excused" or tile.put_by in (None, job.pk) or tile.version == job.version:
        return False
    return tile.put_by > job.pk or (ran is not None and ran.status == MachineRun.Status.SUCCEEDED)
