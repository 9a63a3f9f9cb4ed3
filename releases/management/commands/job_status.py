from datetime import datetime

from django.db.models import Prefetch
from django.utils.timezone import localtime

from deploy_portal.clock import database_now
from jobs.access import get_job
from jobs.commands import PortalCommand, in_one_line
from jobs.models import Freeze
from jobs.models.freeze import AHEAD
from releases.commands import what_comes_first
from releases.models import MachineRun
from releases.pictures import JobPicture
from releases.tidying import tidy_at_once


class Command(PortalCommand):
    help = (
        "Prints how a job stands: its revision and approvals, its stages and when they open, their runs, and each "
        "machine's state, exit status and reason."
    )
    only_tells = True

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("job", type=int, help="the job's number")

    def act(self, user, *, job, **options):
        tidy_at_once()
        job = get_job(user, job)
        met, picture = Freeze.objects.met(job, user, AHEAD), JobPicture(job)
        stages = [_stage(stage) | _opening(stage, met, picture.are_left) for stage in picture.stages]
        status = {"job": job.pk, "business": job.business.slug, "version": job.version, "status": job.status}
        status |= {"revision": job.revision, "approvals_left": job.approvals_left, "stages": stages}
        self.show(_in_words(job, stages), options["json"], status)


def _stage(stage):
    machine_runs = MachineRun.objects.select_related("machine", "worker")
    runs = stage.runs.prefetch_related(Prefetch("machine_runs", machine_runs))
    return {"kind": stage.kind, "status": stage.status, "runs": [_run(run) for run in runs]}


def _opening(stage, met, are_left):
    """Whether the reader could start it now, why not, and when, where only time is missing."""
    if why := what_comes_first(stage, are_left):
        return {"is_open": False, "why_not": why, "opens_at": None}
    opens_at, told = database_now(), []
    if stage.is_soaking:
        opens_at, told = stage.opens_at, [f"{stage.awaited.kind} soaks first."]
    for one, leave in met:  # the first to begin first
        if leave is None and (one.ends is None or one.starts <= opens_at < one.ends):
            opens_at = one.ends
            told.append(str(one.in_words))
        if opens_at is None:  # until somebody ends it
            break
    return {
        "is_open": not told,
        "why_not": " ".join(told),
        "opens_at": opens_at.isoformat() if told and opens_at else None,
    }


def _run(run):
    machines = [_machine(machine_run) for machine_run in run.machine_runs.all()]
    return {"id": run.pk, "action": run.action, "status": run.status, "machines": machines}


def _machine(machine_run):
    return {
        "hostname": machine_run.machine.hostname,
        "status": machine_run.status,
        "exit_status": machine_run.exit_status,
        "worker": machine_run.worker and machine_run.worker.name,
        "machine_run": machine_run.pk,
        "reason": machine_run.reason,
        "version_before": machine_run.version_before,
        "version_wanted": machine_run.version_after,
        "version_after": machine_run.version_reached,
    }


def _in_words(job, stages):
    left = f", {job.approvals_left} more to approve it" if job.is_waiting else ""
    lines = [f"{job}: {job.get_status_display()}, revision {job.revision}{left}"]
    for stage in stages:
        lines.append(f"  {stage['kind']}: {stage['status']}, {_opens(stage)}")
        for run in stage["runs"]:
            lines.append(f"    run {run['id']}, {run['action']}: {run['status']}")
            for machine in run["machines"]:
                ended = "" if machine["exit_status"] is None else f", exit {machine['exit_status']}"
                how = f"{machine['status']}{ended} {in_one_line(machine['reason'])}".rstrip()
                lines.append(f"      {machine['hostname']}: {how}")
    return "\n".join(lines)


def _opens(stage):
    if stage["is_open"]:
        return "open"
    when = stage["opens_at"] and localtime(datetime.fromisoformat(stage["opens_at"]))
    return (f"opens {when:%Y-%m-%d %H:%M:%S}: " if when else "not open: ") + in_one_line(stage["why_not"])
