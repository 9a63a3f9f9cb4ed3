"""What the ledger says of a run, and what its machines say themselves."""

from jobs.models import Event
from releases.models import LogBlock, Run
from tests.waiting import wait_until


def row(run, hostname):
    return run.machine_runs.select_related("worker").get(machine__hostname=hostname)


def statuses(run):
    return dict(run.machine_runs.values_list("machine__hostname", "status"))


def counts(run):
    return run.machine_runs.counts()


def is_so(run, **expected):
    """Waits until the machines named (`pay_1="running"`) are in these states."""
    wanted = {name.replace("_", "-"): status for name, status in expected.items()}
    return wait_until(lambda: wanted.items() <= statuses(run).items() or None, patience=30)


def ended(run, patience=30):
    """Waits until the run has ended, and gives it."""
    return wait_until(lambda: Run.objects.exclude(status=Run.Status.RUNNING).filter(pk=run.pk).first(), patience)


def text(run, hostname):
    blocks = LogBlock.objects.filter(machine_run=row(run, hostname)).order_by("number")
    return "".join(blocks.values_list("text", flat=True))


def events(run, verb):
    return Event.objects.filter(job=run.stage.job, verb=verb)
