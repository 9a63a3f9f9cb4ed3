"""What chaos tells in the end: what was done and struck, and whether the machines and the ledger agree."""

from collections import Counter

from django.db.models import Exists, OuterRef

from jobs.models import Job
from releases.demo import comparison
from releases.models import MachineRun, ReleaseStage, Run


def stuck():
    """One sentence for each run, machine and stage that does not come to an end."""
    pending = MachineRun.objects.pending().filter(run=OuterRef("pk"))
    going_on = Run.objects.active().filter(stage=OuterRef("pk"))
    unknown = MachineRun.objects.filter(status=MachineRun.Status.UNKNOWN).select_related("machine")
    left = Run.objects.exclude(pk__in=Run.objects.active()).filter(Exists(pending))
    still = ReleaseStage.objects.filter(status=ReleaseStage.Status.RUNNING).exclude(Exists(going_on))
    return [
        *(f"Run {run.pk} does not end: {run.machine_runs.counts()}." for run in Run.objects.active()),
        *(f"{machine_run} stays unknown." for machine_run in unknown),
        *(f"Run {run.pk} has ended, its machines have not: {run.machine_runs.counts()}." for run in left),
        *(f"{stage} is running, but no run of it is." for stage in still.select_related("job__business")),
    ]


def facts(homes):
    """What the ledger and the machines come to."""
    differences = comparison.compare(homes)
    kinds = Counter(difference.kind for difference in differences)
    return {
        "jobs": Job.objects.count(),
        "runs": Run.objects.count(),
        "machine_runs": MachineRun.objects.counts(),
        "executions": sum(len(comparison.lines_of(home)) for home in homes.iterdir()),
        "differences": {str(kind): kinds[kind] for kind in comparison.Kind},
        "stuck": stuck(),
        "sentences": [f"{hostname}: {sentence}" for hostname, _, sentence in differences],
    }


def is_good(facts):
    return not (facts["sentences"] or facts["stuck"] or facts["errors"])


def words(facts):
    """The facts as lines for a person, what is wrong last."""
    strikes, steps = sum(facts["strikes"].values()), sum(facts["steps"].values())
    lines = [
        f"{facts['seconds']:g} s of chaos with seed {facts['seed']}, on {facts['database']}",
        f"{strikes} strikes: {_counted(facts['strikes'])}",
        f"{steps} steps of people: {_counted(facts['steps'])}; {facts['refused']} refused",
        f"{facts['jobs']} jobs, {facts['runs']} runs, {sum(facts['machine_runs'].values())} machine runs: "
        f"{_counted(facts['machine_runs'])}",
        f"{facts['workers']} workers, {facts['given_up']} of them given up",
        f"{facts['executions']} executions by the machines' own releases.log",
        *(f"{number} {kind}" for kind, number in facts["differences"].items()),
        f"{len(facts['stuck'])} stuck",
        *facts["sentences"],
        *facts["stuck"],
        *facts["errors"],
    ]
    return "\n".join(lines)


def _counted(numbers):
    return ", ".join(f"{number} {name}" for name, number in sorted(numbers.items()))
