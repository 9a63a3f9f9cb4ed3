import time

from django.core.management.base import CommandError

from deploy_portal import origin
from jobs.commands import CONFLICT, InertCommand
from jobs.config_service import SourceError
from jobs.models import Business
from jobs.models.sync import LISTS


class Command(InertCommand):
    help = (
        "Asks the config service for the machines of all businesses, or of those named. A list that cannot be trusted "
        "is not taken: the last good one stays, the reason is printed, and the exit code is 4."
    )

    def add_arguments(self, parser):
        parser.add_argument("businesses", nargs="*", default=[], metavar="BUSINESS", help="short names (default: all)")
        parser.add_argument(
            "--accept-loss", action="store_true", help="take the list even though many machines are missing from it"
        )
        parser.add_argument("--dry-run", action="store_true", help="change nothing; tell what would change")
        parser.add_argument("--json", action="store_true", help="print JSON, for scripts")

    def handle(self, *args, businesses, accept_loss, dry_run, json, **options):
        known = {business.slug: business for business in Business.objects.all()}
        if unknown := set(businesses) - set(known):
            raise CommandError(f"No such business: {', '.join(sorted(unknown))}")
        with origin.process("command"):
            results = [self._sync(known[slug], accept_loss, dry_run) for slug in businesses or known]
        self._print(results, json)
        if failed := [result["business"] for result in results if "error" in result]:
            raise CommandError(f"Not synced: {', '.join(failed)}", returncode=CONFLICT)

    def _sync(self, business, accept_loss, dry_run):
        shown = Progress(business.slug, self.stderr)
        try:
            sync = business.sync_machines(accept_loss, dry_run, shown.tell)
        except SourceError as error:
            return {"business": business.slug, "error": str(error)}
        finally:
            shown.clear()
        return {"business": business.slug, "machines": sync.listed} | {what: getattr(sync, what) for what in LISTS}

    def _print(self, results, as_json):
        lines = []
        for result in results:
            lines.append(f"{result['business']}: {_in_words(result)}")
            lines += [f"  {line}" for line in _lines(result)]
        self.show("\n".join(lines), as_json, results)


def _in_words(result):
    if "error" in result:
        return result["error"]
    changes = ", ".join(f"{len(result[what])} {what}" for what in LISTS if result[what])
    return f"{result['machines']} machines" + (f"; {changes}" if changes else "")


def _lines(result):
    """What changed, a line each, as a difference shows it."""
    yield from (f"+ {hostname}" for hostname in result.get("added", []))
    yield from (f"- {hostname}" for hostname in result.get("gone", []))
    yield from (f"~ {one['hostname']}: {one['was']} -> {one['now']}" for one in result.get("moved", []))
    yield from (f"! row {row['row']} ({row['name']}) refused: {row['reason']}" for row in result.get("refused", []))


class Progress:
    """How many rows have come, in one line of a terminal; nothing where none is there to look."""

    EVERY = 0.1  # seconds

    def __init__(self, name, out):
        self.name, self.out = name, out
        self.is_shown = out.isatty()
        self.due = 0

    def tell(self, number):
        if self.is_shown and time.monotonic() > self.due:
            self.due = time.monotonic() + self.EVERY
            self.out.write(f"\r\x1b[K{self.name}: {number} rows", ending="")
            self.out.flush()

    def clear(self):
        if self.is_shown and self.due:
            self.out.write("\r\x1b[K", ending="")
