import time

from django.core.exceptions import PermissionDenied
from django.core.management.base import CommandError

from deploy_portal.admin_parts import named
from jobs.commands import CONFLICT, PortalCommand
from jobs.config_service import SourceError
from jobs.models import Business, Event, Machine
from jobs.models.sync import LISTS


class Command(PortalCommand):
    needs_user = False
    help = (
        "Asks the config service for the machines of all businesses, or of those named. A list that cannot be trusted "
        "is not taken: the last good one stays, the reason is printed, and the exit code is 4. cron asks in nobody's "
        "name, a person in that of ops."
    )

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("businesses", nargs="*", default=[], metavar="BUSINESS", help="short names (default: all)")
        parser.add_argument(
            "--accept-loss", action="store_true", help="take the list even though many machines are missing from it"
        )
        parser.add_argument("--dry-run", action="store_true", help="change nothing; tell what would change")

    def act(self, user, *, businesses, accept_loss, dry_run, json, **options):
        if user and not user.is_ops:
            raise PermissionDenied("To ask in one's own name is for ops.")
        known = {business.slug: business for business in Business.objects.all()}
        if unknown := set(businesses) - set(known):
            raise CommandError(f"No such business: {', '.join(sorted(unknown))}")
        results = [self._sync(user, known[slug], accept_loss, dry_run) for slug in businesses or known]
        self._print(results, json)
        if failed := [result["business"] for result in results if "error" in result]:
            raise CommandError(f"Not synced: {', '.join(failed)}", returncode=CONFLICT)

    def _sync(self, user, business, accept_loss, dry_run):
        if user and not dry_run:
            Event.objects.tell(user, Event.Verb.ASKED_AGAIN, named(business))
        shown = Progress(business, self.stderr)
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
    """How many rows have come, and of how many last time, in one line of a terminal; nothing without one."""

    EVERY = 0.1  # seconds
    WIDTH = 30

    def __init__(self, business, out):
        self.name, self.out = business.slug, out
        self.is_shown = out.isatty()
        self.expected = Machine.objects.live_in(business).count() if self.is_shown else 0
        self.due = 0

    def tell(self, number):
        if self.is_shown and time.monotonic() >= self.due:
            self.due = time.monotonic() + self.EVERY
            self._draw(f"{self.name} {self._bar(number)}rows: {number}")

    def clear(self):
        if self.is_shown and self.due:
            self._draw("")

    def _bar(self, number):
        done = min(number / self.expected, 1) * self.WIDTH if self.expected else 0
        return f"[{'#' * int(done):.<{self.WIDTH}}] "

    def _draw(self, words):
        # Not in the red of what else goes there.
        self.out.write(f"\r\x1b[K{words}", style_func=str, ending="")
        self.out.flush()
