import argparse
import json
from pathlib import Path

from django.core.management.base import CommandError
from django.db import transaction
from django.db.models import Exists, OuterRef

from deploy_portal import origin
from jobs import append_only
from jobs.chain import chains, check
from jobs.commands import FAILED, MISTAKE, InertCommand
from jobs.models import Event, Job


class Command(InertCommand):
    help = (
        "Says whether the events are whole: of each job, and of what is of no job, whether one was changed, is missing "
        "or does not follow the one before it; and whether the database still refuses such changes. Prints the head of "
        "each chain (job, number, hash): kept elsewhere, --heads finds what was cut off from the end since, or written "
        "anew altogether. The exit code is 3 when something is wrong."
    )
    only_tells = True

    def add_arguments(self, parser):
        parser.add_argument(
            "jobs", nargs="*", default=[], type=int, metavar="JOB", help="the jobs' numbers (default: all events)"
        )
        parser.add_argument("--heads", metavar="FILE", type=_heads, help="what --json printed before, to compare with")
        parser.add_argument("--restore-triggers", action="store_true", help="make the database refuse changes again")
        parser.add_argument("--json", action="store_true", help="print JSON, for scripts")

    def handle(self, *args, jobs, heads, restore_triggers, **options):
        missing = append_only.missing()
        if missing and restore_triggers:
            _restore(missing)
        kept = {head["job"]: head for head in heads or [] if not jobs or head["job"] in jobs}
        found, wrong = _verify(jobs, kept)
        wrong += [f"the database did not refuse changes: {name} is missing or altered" for name in missing]
        words = "\n".join(f"{_name(head['job'])}: {head['number']} {head['hash']}" for head in found)
        if words or options["json"]:
            try:
                self.show(words, options["json"], {"intact": not wrong, "wrong": wrong, "heads": found})
            except CommandError as error:
                if not wrong:
                    raise
                wrong.append(str(error))
        if wrong:
            raise CommandError("\n".join(wrong), returncode=FAILED)


def _heads(file):
    """The heads in a file that --json has written."""
    try:
        heads = json.loads(Path(file).read_text(encoding="utf-8"))["heads"]
        return [
            {"job": head["job"] and int(head["job"]), "number": int(head["number"]), "hash": str(head["hash"])}
            for head in heads
        ]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{file} is not what verify_events --json has printed: {error}") from error


def _verify(jobs, kept):
    """The heads of the chains, and what is wrong, in words."""
    events, told = Event.objects.all(), Job.objects.all()
    if unknown := [job for job in jobs if not told.filter(pk=job).exists()]:
        raise CommandError(f"There is no job {', '.join(map(str, unknown))}.", returncode=MISTAKE)
    if jobs:
        events, told = events.filter(job__in=jobs), told.filter(pk__in=jobs)
    found, wrong = [], []
    for job, chain in chains(events):
        last, breaks = check(chain, kept.pop(job, None))
        found.append({"job": job, "number": last.number, "hash": last.digest})
        wrong += [f"{_name(job)}: {words}" for words in breaks]
    untold = told.filter(~Exists(Event.objects.filter(job=OuterRef("pk")))).values_list("pk", flat=True)
    wrong += [f"{_name(job)}: all events are missing" for job in sorted({*untold, *kept}, key=lambda job: job or 0)]
    return found, wrong


def _name(job):
    return "the portal" if job is None else f"job {job}"


def _restore(missing):
    with transaction.atomic(), origin.process("command"):
        append_only.install()
        Event.objects.tell(None, Event.Verb.CHANGED, "database", triggers=missing)
