import argparse

from django.utils.timezone import localtime

from jobs.access import sees_job
from jobs.commands import HOSTNAMES, PortalCommand, business_named, in_one_line, named_machines
from jobs.models import Machine
from jobs.rights import Right
from releases.models import MachineRun
from releases.models.machine_run import with_versions

MOST_RUNS = 1000


class Command(PortalCommand):
    help = (
        "Prints which version the ledger last saw on each machine of a business. Of machines that are named it also "
        "tells who holds them and what was done to them: when, by whom, in which job and run, and how it ended."
    )
    only_tells = True

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("business", help="the business's short name")
        parser.add_argument("machines", nargs="*", default=[], metavar="HOSTNAME", help=HOSTNAMES)
        parser.add_argument(
            "--runs", type=_number, default=20, help="how many of its runs, from the newest (default 20)"
        )

    def act(self, user, *, business, machines, runs, json, **options):
        business = business_named(user, business, Right.VIEW)
        if machines:
            # Also what is gone: its history is not.
            known = with_versions(Machine.objects.filter(listings__business=business), business)
            left = set(business.listings.left_to_others().values_list("machine", flat=True))
            named = named_machines(known, machines)
            told = [_machine(one, one.pk in left) | _done_to(one, business, user, runs) for one in named]
        else:
            live = with_versions(Machine.objects.live_in(business), business)
            told = [_machine(one) for one in live.order_by("hostname")]
        self.say("\n".join(map(_in_words, told)), json, business=business.slug, machines=told)


def _number(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a number, not {text!r}")
    return min(int(text), MOST_RUNS)


def _machine(machine, is_of_others=False):
    site = "" if is_of_others else machine.site
    return {"hostname": machine.hostname, "site": site, "version": machine.now_on or ""}


def _done_to(machine, business, user, number):
    machine_runs = MachineRun.objects.filter(machine=machine).in_business(business).order_by("-pk")
    machine_runs = machine_runs.select_related("run__started_by", "run__stage__job__business")
    return {"held_by": _holder(machine, user), "runs": [_run(one) for one in machine_runs[:number]]}


def _holder(machine, user):
    holder = MachineRun.objects.holder_of(machine)
    job = holder and holder.run.stage.job
    return job and (str(job) if sees_job(user, job.pk) else "a job of another business")


def _run(machine_run):
    run = machine_run.run
    return {
        "run": run.pk,
        "job": run.stage.job_id,
        "stage": run.stage.kind,
        "action": run.action,
        "started_by": run.started_by.username,
        "queued_at": machine_run.queued_at,
        "ended_at": machine_run.ended_at,
        "status": machine_run.status,
        "exit_status": machine_run.exit_status,
        "reason": machine_run.reason,
        "version_before": machine_run.version_before,
        "version_wanted": machine_run.version_after,
        "version_after": machine_run.version_reached,
    }


def _in_words(machine):
    lines = [f"{machine['hostname']}: {machine['version'] or 'not known'}"]
    if machine.get("held_by"):
        lines[0] += f", held by {machine['held_by']}"
    for run in machine.get("runs", []):
        what = f"#{run['job']} {run['stage']}, {run['action']} to {run['version_wanted'] or 'nothing'}"
        whose = f"by {run['started_by']} in run {run['run']}: {run['status']} {in_one_line(run['reason'])}"
        lines.append(f"  {localtime(run['queued_at']):%Y-%m-%d %H:%M:%S} {what} {whose}".rstrip())
    return "\n".join(lines)
