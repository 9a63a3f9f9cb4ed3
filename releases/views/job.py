from collections import Counter

from django.contrib.auth.decorators import login_required
from django.shortcuts import render
from django.views.decorators.http import require_safe

from jobs.access import get_job
from jobs.freeze_forms import LeaveForm
from jobs.models import Freeze
from jobs.rights import Right
from releases.candidates import candidates, left_to_do
from releases.ledger import tidy_if_alone
from releases.models import ReleaseStage
from releases.pictures import JobPicture, bar, ordered, tile_size
from releases.preview import Preview


@login_required
@require_safe
def job_page(request, job_id):
    tidy_if_alone()
    job = get_job(request.user, job_id)
    job.business.refresh_machines()
    picture = JobPicture(job)
    seen = candidates(picture.stages[0])
    sites = picture.tiles()
    running = next((picture.runs[stage.pk] for stage in picture.stages if stage.is_running), None)
    counts = Counter(tile.status for site in sites for tile in site.tiles)
    context = {
        "job": job,
        "rights": job.rights,
        "next_stage": ReleaseStage.objects.next_of(job, picture.stages),
        "running": running,
        "pipeline": picture.pipeline(),
        "sites": sites,
        "tile_size": tile_size(counts.total()),
        "counts": ordered(counts),
        "total": counts.total(),
        "out": picture.out,
        "bar": bar(counts),
        "events": job.events.select_related("actor"),
        "changed": sum(
            stage.count_rollback_candidates()
            for stage in picture.stages
            if stage.pk in picture.runs and not stage.is_running
        ),
        "breakable_stage": next((stage for stage in picture.stages if stage.needs_break_glass), None),
        "soaking_stage": next((stage for stage in picture.stages if stage.is_soaking), None),
        "left": bool(left_to_do(job, seen)),
        "drift": [] if job.status == job.Status.WITHDRAWN else seen.drifted,
        "preview": Preview(job) if job.is_before_first_stage else None,
        "approvers": job.approvers_left() if job.status == job.Status.WAITING else [],
    }
    return render(request, "releases/job.html", context | _freezes(job, context["rights"], request.user))


def _freezes(job, rights, user):
    may_give_leave = Right.APPROVE in rights and job.status not in (job.Status.WITHDRAWN, job.Status.RELEASED)
    return {
        "freezes": Freeze.objects.windows().of(job.business).ahead(),
        "leaves": job.leaves.live(),
        "leave_form": LeaveForm(job=job, giver=user) if may_give_leave else None,
    }
