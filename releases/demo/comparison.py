"""Compares what the machines themselves wrote down with the portal's ledger, line by line."""

from collections import Counter, defaultdict
from enum import StrEnum
from typing import NamedTuple

from releases.models import MachineRun

NOTHING = "-"  # what a rollback to no version writes


class Kind(StrEnum):
    """In what a machine and the ledger can differ."""

    NOT_IN_LEDGER = "executions without a machine run"
    NOT_EXECUTED = "machine runs succeeded that the machine does not know"
    TWICE = "machine runs executed twice"
    OTHER_LINE = "executions of something else"
    OTHER_VERSION = "machines with another version"


class Difference(NamedTuple):
    hostname: str
    kind: Kind
    sentence: str


def differences(homes):
    """{hostname: [sentences]} for the machines whose homes are folders in `homes`; empty when all agree."""
    by_machine = defaultdict(list)
    for difference in compare(homes):
        by_machine[difference.hostname].append(difference.sentence)
    return dict(by_machine)


def compare(homes):
    """The Differences of the machines whose homes are folders in `homes`, by host name."""
    by_machine = defaultdict(list)
    started = MachineRun.objects.filter(started_at__isnull=False).select_related("machine", "run__stage__job")
    # What had to wait for its machine was asked for before others that ran there first
    for machine_run in started.order_by("started_at", "pk"):
        by_machine[machine_run.machine.hostname].append(machine_run)
    hostnames = {home.name for home in homes.iterdir()} | set(by_machine)
    return [
        Difference(hostname, *found)
        for hostname in sorted(hostnames)
        for found in _of_machine(homes / hostname, by_machine[hostname])
    ]


def lines_of(home):
    """What the machine with that home says it executed."""
    return _read(home / "releases.log").splitlines()


def _of_machine(home, machine_runs):
    ledger = {str(machine_run.pk): machine_run for machine_run in machine_runs}
    lines, begun = lines_of(home), _read(home / "begun.log").splitlines()
    yield from (found for line in lines if (found := _of_line(line, ledger)))
    for pk in begun:
        if pk not in ledger:
            yield Kind.NOT_IN_LEDGER, f"Begun, but not in the ledger: {pk!r}."
    ended, begun = Counter(line.split(" ")[0] for line in lines), Counter(begun)
    for pk, machine_run in ledger.items():
        if (times := max(ended[pk], begun[pk])) > 1:
            yield Kind.TWICE, f"Machine run {pk} was executed {times} times."
        # Only of a success is it known that its line was written: what was cut off may have come so far or not
        if not ended[pk] and machine_run.status == MachineRun.Status.SUCCEEDED:
            yield Kind.NOT_EXECUTED, f"Machine run {pk} succeeded by the ledger, but was not executed here."
    yield from _of_current(_read(home / "current").strip(), machine_runs)


def _of_line(line, ledger):
    """What is wrong with one line of releases.log."""
    pk = line.split(" ")[0]
    if pk not in ledger:
        return Kind.NOT_IN_LEDGER, f"Executed, but not in the ledger: {line!r}."
    expected = _line_of(ledger[pk])
    return None if line == expected else (Kind.OTHER_LINE, f"Executed {line!r}, where the ledger has {expected!r}.")


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
    if current not in possible:
        expected = " or ".join(version or "nothing" for version in dict.fromkeys(possible))
        yield Kind.OTHER_VERSION, f"{current or 'Nothing'} is there now, where the ledger has {expected}."


def _read(path):
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
