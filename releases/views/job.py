from collections import Counter

from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.shortcuts import render
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from jobs.access import get_job
from jobs.freeze_forms import LeaveForm
from jobs.models import Freeze
from jobs.rights import Right
from releases.candidates import candidates
from releases.counts import ordered
from releases.models import ReleaseStage
from releases.models.queue import FAILURES
from releases.overtaken import overtaken
from releases.pictures import JobPicture
from releases.preview import Preview
from releases.tidying import tidy_if_alone
from releases.tiles import SITE, STAGE, grouped, labels_to_group_by, size_of

# What of the timeline can be looked at alone.
FAILED = Q(became__in=FAILURES) | Q(detail__counts__has_any_keys=FAILURES)
TIMELINES = {"people": Q(actor__isnull=False), "failures": FAILED}


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
        "changed": picture.count_changed(),
        "breakable_stage": next((stage for stage in picture.stages if stage.needs_break_glass), None),
        "soaking_stage": next((stage for stage in picture.stages if stage.is_soaking), None),
        "are_left": picture.are_left,
        "are_to_excuse": picture.are_to_excuse,
        "drift": [] if job.status == job.Status.WITHDRAWN else candidates(job).drifted,
        "preview": Preview(job) if job.is_before_first_stage else None,
        "approvers": job.approvers_left() if job.is_waiting else [],
    }
    context |= _machines(picture, request.GET.get("by")) | _timeline(job, request.GET.get("events"))
    return render(request, "releases/job.html", context | _freezes(picture, request.user))


def _machines(picture, by):
    tiles = picture.tiles()
    labels = labels_to_group_by(tiles)
    by = by if by in (STAGE, *labels) else SITE
    groups = grouped(tiles, by, picture.stages)
    counts = Counter(tile.status for tile in tiles)
    since = overtaken(picture, tiles)
    return {
        "overtaken": since,
        "overtaken_in_all": sum(number for _job, _version, number in since),
        "groups": groups,
        "grouped_by": by,
        "labels": labels,
        "tile_size": size_of(groups),
        "counts": ordered(counts),
        "total": counts.total(),
        "wrong": picture.wrong,
        "wrong_total": len(picture.wrong_ids),
    }


def _timeline(job, shown):
    shown = shown if shown in TIMELINES else ""
    events = job.events.filter(TIMELINES[shown]) if shown else job.events
    return {"events": events.select_related("actor"), "events_shown": shown}


def _freezes(picture, user):
    job = picture.job
    may_give_leave = Right.APPROVE in job.rights and job.status != job.Status.WITHDRAWN and picture.are_left
    freezes = Freeze.objects.windows().of(job.business).ahead()
    return {
        "freezes": freezes,
        "leaves": job.leaves.live(),
        "leave_form": LeaveForm(job=job, giver=user, ahead=freezes) if may_give_leave else None,
    }
