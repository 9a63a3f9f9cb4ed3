import re

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import BadRequest
from django.http import StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from jobs.access import get_job, sees_job
from jobs.rights import Right
from jobs.views.not_taken import too_late
from releases.forms import ResolveForm
from releases.models import LogBlock, MachineRun, NotUnknown

LINES_AT_ONCE = 2000  # of a log; a page asks for the rest by and by


@login_required
@require_safe
def machine_run_page(request, job_id, machine_run_id):
    """The log of one machine and what happened to it; as a pane of the stage page when that asks for it."""
    machine_run = _get_machine_run(request.user, job_id, machine_run_id)
    template = "releases/_log_pane.html" if request.htmx else "releases/machine_run.html"
    return _show(request, machine_run, ResolveForm(), template)


@login_required
@require_safe
def machine_run_log(request, job_id, machine_run_id):
    """The log blocks after the number `?after=`, and what the page shows of a status other than `?seen=`."""
    machine_run = _get_machine_run(request.user, job_id, machine_run_id)
    after = request.GET.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) < 10):
        raise BadRequest(_("A log is read from a block number on."))
    context = {"is_more": True, "seen": request.GET.get("seen")}
    return _show(request, machine_run, ResolveForm(), "releases/_log_lines.html", int(after), **context)


@login_required
@require_safe
def machine_run_download(request, job_id, machine_run_id):
    """The whole log as a file."""
    machine_run = _get_machine_run(request.user, job_id, machine_run_id)
    headers = {"Content-Disposition": content_disposition_header(True, _file_name(machine_run))}
    lines = LogBlock.objects.filter(machine_run=machine_run).lines()
    return StreamingHttpResponse(lines, content_type="text/plain; charset=utf-8", headers=headers)


@login_required
@require_POST
def resolve_machine_run(request, job_id, machine_run_id):
    machine_run = _get_machine_run(request.user, job_id, machine_run_id, Right.RESOLVE)
    form = ResolveForm(request.POST)
    if not form.is_valid():
        return _show(request, machine_run, form)
    status, reason = form.cleaned_data["status"], form.cleaned_data["reason"]
    page = reverse("machine_run", args=[job_id, machine_run_id])
    try:
        machine_run.resolve(request.user, status, reason)
    except NotUnknown as conflict:
        if not machine_run.has_just_been_resolved(request.user, status, reason):
            return too_late(request, conflict, reason, page, machine_run.run.stage.job)
    messages.success(request, _("Resolved; the machine is free again."))
    return redirect(page)


def _get_machine_run(user, job_id, machine_run_id, right=Right.VIEW):
    job = get_job(user, job_id, right)
    machine_runs = MachineRun.objects.in_job(job).select_related("machine", "worker", "run__task_version__task")
    machine_run = get_object_or_404(machine_runs.select_related("run__started_by", "run__stage"), pk=machine_run_id)
    machine_run.run.stage.job = job
    return machine_run


def _file_name(machine_run):
    job = machine_run.run.stage.job
    what = re.sub(r"[^A-Za-z0-9._-]", "-", f"{job.business.slug}-{job.version}-{machine_run.machine.hostname}")
    return f"{what[:200]}-run-{machine_run.run_id}.log"


def _show(request, machine_run, form, template="releases/machine_run.html", after=0, **more):
    job, holder = machine_run.run.stage.job, machine_run.holder
    others = MachineRun.objects.filter(machine=machine_run.machine, run__stage__job__business=job.business)
    context = {
        "job": job,
        "rights": job.rights,
        "form": form,
        "holder": holder,
        "holder_is_seen": holder and sees_job(request.user, holder.run.stage.job_id),
        "others": others.exclude(pk=machine_run.pk).select_related("run__stage__job__business").order_by("-pk")[:5],
    }
    return render(request, template, context | _log_of(machine_run, after) | more)


def _log_of(machine_run, after):
    """The next blocks of a log, and whether there may be more of them already."""
    blocks, lines = [], 0
    following = LogBlock.objects.filter(machine_run=machine_run, number__gt=after)[:LINES_AT_ONCE]
    for block in following.iterator(chunk_size=20):
        blocks.append(block)
        lines += max(1, len(block.text.splitlines()))
        if lines >= LINES_AT_ONCE:
            break
    last = blocks[-1].number if blocks else after
    return {"machine_run": machine_run, "blocks": blocks, "after": last, "is_left": lines >= LINES_AT_ONCE}
