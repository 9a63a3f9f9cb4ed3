from jobs.access import get_job
from jobs.commands import PortalCommand, in_one_line
from releases.models import ReleaseStage
from releases.tidying import tidy_at_once


class Command(PortalCommand):
    help = "Prints how a job stands: its stages, their runs, and each machine's state, exit status and reason."
    only_tells = True

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("job", type=int, help="the job's number")

    def act(self, user, *, job, **options):
        tidy_at_once()
        job = get_job(user, job)
        stages = [_stage(stage) for stage in ReleaseStage.objects.of(job)]
        status = {"job": job.pk, "business": job.business.slug, "version": job.version, "status": job.status}
        status["stages"] = stages
        self.show(_in_words(job, stages), options["json"], status)


def _stage(stage):
    return {"kind": stage.kind, "status": stage.status, "runs": [_run(run) for run in stage.runs.all()]}


def _run(run):
    machine_runs = run.machine_runs.select_related("machine", "worker")
    return {
        "id": run.pk,
        "action": run.action,
        "status": run.status,
        "machines": [_machine(machine_run) for machine_run in machine_runs],
    }


def _machine(machine_run):
    return {
        "hostname": machine_run.machine.hostname,
        "status": machine_run.status,
        "exit_status": machine_run.exit_status,
        "worker": machine_run.worker and machine_run.worker.name,
        "machine_run": machine_run.pk,
        "reason": machine_run.reason,
        "version_before": machine_run.version_before,
        "version_after": machine_run.version_after,
    }


def _in_words(job, stages):
    lines = [f"{job}: {job.get_status_display()}"]
    for stage in stages:
        lines.append(f"  {stage['kind']}: {stage['status']}")
        for run in stage["runs"]:
            lines.append(f"    run {run['id']}, {run['action']}: {run['status']}")
            for machine in run["machines"]:
                ended = "" if machine["exit_status"] is None else f", exit {machine['exit_status']}"
                how = f"{machine['status']}{ended} {in_one_line(machine['reason'])}".rstrip()
                lines.append(f"      {machine['hostname']}: {how}")
    return "\n".join(lines)
