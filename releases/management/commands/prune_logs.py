import argparse
from datetime import UTC, timedelta
from functools import partial

from django.db import transaction
from django.db.models import Count, Exists, OuterRef

from deploy_portal import origin
from deploy_portal.clock import database_now
from jobs.commands import InertCommand
from jobs.models import Event
from releases.models import LogBlock, MachineRun
from releases.models.queue import HOLDING

BATCH = 500
PRUNED = "… this log was pruned on {:%Y-%m-%d %H:%M} UTC …"


class Command(InertCommand):
    help = (
        "Deletes what machines said in runs that ended long ago, and leaves a line in each log that says when. The "
        "history stays: who released what, where, when, and how it ended. Logs of machines that still run, or whose "
        "end is unknown, stay too. Meant for cron; calling it again does no harm."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--older-than", metavar="DAYS", type=_days, required=True, help="prune what ended more than DAYS days ago"
        )
        parser.add_argument("--keep-failed", action="store_true", help="prune only the logs of machines that succeeded")
        parser.add_argument("--dry-run", action="store_true", help="say what would be pruned, and delete nothing")
        parser.add_argument("--json", action="store_true", help="print JSON, for scripts")

    def handle(self, *args, older_than, keep_failed, dry_run, **options):
        now = database_now()
        logs = partial(_old_logs, now - timedelta(days=older_than), keep_failed)
        why = {"older_than": older_than, "keep_failed": keep_failed}
        with origin.process("command"):
            counts = _count(logs()) if dry_run else _prune(logs, PRUNED.format(now.astimezone(UTC)), why)
        words = f"{'Would prune' if dry_run else 'Pruned'} {counts[0]} logs, {counts[1]} blocks."
        self.show(words, options["json"], {"logs": counts[0], "blocks": counts[1], "dry_run": dry_run})


def _days(text):
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text)):
        raise argparse.ArgumentTypeError(f"a whole number of days from 1 to 99999, not {text!r}")
    return int(text)


def _old_logs(before, keep_failed, after=0):
    """The machine runs that ended before then and whose log holds more than marks: the others are pruned already.

    Those after this id, which is said twice: PostgreSQL would begin with the first block of all.
    """
    blocks = LogBlock.objects.filter(machine_run=OuterRef("pk"), machine_run__gt=after)
    said = Exists(blocks.exclude(stream=LogBlock.Stream.MARK))
    ended = MachineRun.objects.filter(said, pk__gt=after, ended_at__lt=before).exclude(status__in=HOLDING)
    return ended.filter(status=MachineRun.Status.SUCCEEDED) if keep_failed else ended


def _count(logs):
    counts = logs.aggregate(logs=Count("pk", distinct=True), blocks=Count("log_blocks"))
    return counts["logs"], counts["blocks"]


def _prune(logs, mark, why):
    """Prunes batch by batch; returns how many logs and blocks that were."""
    pruned = deleted = last = 0
    while ids := list(logs(after=last).order_by("pk").values_list("pk", flat=True)[:BATCH]):
        counts = _prune_some(ids, mark, why)
        pruned += counts[0]
        deleted += counts[1]
        last = ids[-1]
    return pruned, deleted


@transaction.atomic
def _prune_some(ids, mark, why):
    """Prunes the logs of these machine runs and tells it; of two who do so at the same moment, one does."""
    MachineRun.objects.filter(pk__in=ids).lock()
    said = LogBlock.objects.filter(machine_run__in=ids).exclude(stream=LogBlock.Stream.MARK)
    ids = list(said.order_by().values_list("machine_run", flat=True).distinct())
    if not ids:
        return 0, 0
    blocks = LogBlock.objects.filter(machine_run__in=ids).delete()[0]
    marks = [LogBlock(machine_run_id=pk, number=1, stream=LogBlock.Stream.MARK, text=mark) for pk in ids]
    LogBlock.objects.bulk_create(marks, ignore_conflicts=True)
    Event.objects.tell(None, Event.Verb.PRUNED, "logs", logs=len(ids), blocks=blocks, **why)
    return len(ids), blocks
