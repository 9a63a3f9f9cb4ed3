"""Compares what the machines themselves wrote down with the portal's ledger, line by line."""

from collections import Counter, defaultdict

from releases.models import MachineRun

NOTHING = "-"  # what a rollback to no version writes


def differences(homes):
    """{hostname: [sentences]} for the machines whose homes are folders in `homes`; empty when all agree."""
    by_machine = defaultdict(list)
    started = MachineRun.objects.filter(started_at__isnull=False).select_related("machine", "run__stage__job")
    for machine_run in started.order_by("pk"):
        by_machine[machine_run.machine.hostname].append(machine_run)
    hostnames = {home.name for home in homes.iterdir()} | set(by_machine)
    found = {name: _of_machine(homes / name, by_machine[name]) for name in sorted(hostnames)}
    return {name: sentences for name, sentences in found.items() if sentences}


def lines_of(home):
    """What the machine with that home says it executed."""
    return _read(home / "releases.log").splitlines()


def _of_machine(home, machine_runs):
    ledger = {str(machine_run.pk): machine_run for machine_run in machine_runs}
    lines = lines_of(home)
    sentences = [sentence for line in lines if (sentence := _of_line(line, ledger))]
    seen = Counter(line.split(" ")[0] for line in lines)
    for pk, machine_run in ledger.items():
        if seen[pk] > 1:
            sentences.append(f"Machine run {pk} was executed {seen[pk]} times.")
        if not seen[pk] and machine_run.status == MachineRun.Status.SUCCEEDED:
            sentences.append(f"Machine run {pk} succeeded by the ledger, but was not executed here.")
    return sentences + _of_current(_read(home / "current").strip(), machine_runs)


def _of_line(line, ledger):
    """What is wrong with one line of releases.log."""
    pk = line.split(" ")[0]
    if pk not in ledger:
        return f"Executed, but not in the ledger: {line!r}."
    expected = _line_of(ledger[pk])
    return "" if line == expected else f"Executed {line!r}, where the ledger has {expected!r}."


def _line_of(machine_run):
    run = machine_run.run
    words = [machine_run.pk, run.action, machine_run.version_after or NOTHING, run.stage.job_id, run.stage.kind]
    return " ".join(map(str, words))


def _of_current(current, machine_runs):
    """After its last success, a machine may also have what a run that did not end well was about to put there."""
    possible = [""]
    for machine_run in machine_runs:
        succeeded = machine_run.status == MachineRun.Status.SUCCEEDED
        possible = [machine_run.version_after] if succeeded else [*possible, machine_run.version_after]
    if current in possible:
        return []
    expected = " or ".join(version or "nothing" for version in dict.fromkeys(possible))
    return [f"{current or 'Nothing'} is there now, where the ledger has {expected}."]


def _read(path):
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
