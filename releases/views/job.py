from collections import Counter

from django.contrib.auth.decorators import login_required
from django.shortcuts import render
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from jobs.access import get_job
from jobs.freeze_forms import LeaveForm
from jobs.models import Freeze
from jobs.rights import Right
from releases.candidates import candidates
from releases.models import ReleaseStage
from releases.overtaken import overtaken
from releases.pictures import JobPicture, ordered, tile_size
from releases.preview import Preview
from releases.tidying import tidy_if_alone


@gzip_page
@login_required
@require_safe
def job_page(request, job_id):
    tidy_if_alone()
    job = get_job(request.user, job_id)
    job.business.refresh_machines()
    picture = JobPicture(job)
    running = next((picture.runs[stage.pk] for stage in picture.stages if stage.is_running), None)
    context = {
        "job": job,
        "rights": job.rights,
        "next_stage": ReleaseStage.objects.next_of(job, picture.stages),
        "running": running,
        "pipeline": picture.pipeline(),
        "out": picture.out,
        "events": job.events.select_related("actor"),
        "changed": picture.count_changed(),
        "breakable_stage": next((stage for stage in picture.stages if stage.needs_break_glass), None),
        "soaking_stage": next((stage for stage in picture.stages if stage.is_soaking), None),
        "are_left": picture.are_left,
        "are_to_excuse": picture.are_to_excuse,
        "drift": [] if job.status == job.Status.WITHDRAWN else candidates(job).drifted,
        "preview": Preview(job) if job.is_before_first_stage else None,
        "approvers": job.approvers_left() if job.is_waiting else [],
    }
    context |= _machines(picture) | _freezes(picture, request.user)
    return render(request, "releases/job.html", context)


def _machines(picture):
    sites = picture.tiles()
    tiles = [tile for site in sites for tile in site.tiles]
    counts = Counter(tile.status for tile in tiles)
    since = overtaken(picture, tiles)
    return {
        "overtaken": since,
        "overtaken_in_all": sum(number for _job, _version, number in since),
        "sites": sites,
        "tile_size": tile_size(sites),
        "counts": ordered(counts),
        "total": counts.total(),
    }


def _freezes(picture, user):
    job = picture.job
    may_give_leave = Right.APPROVE in job.rights and job.status != job.Status.WITHDRAWN and picture.are_left
    freezes = Freeze.objects.windows().of(job.business).ahead()
    return {
        "freezes": freezes,
        "leaves": job.leaves.live(),
        "leave_form": LeaveForm(job=job, giver=user, ahead=freezes) if may_give_leave else None,
    }
