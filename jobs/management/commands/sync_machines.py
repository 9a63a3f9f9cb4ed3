import json

from django.core.management.base import BaseCommand, CommandError

from jobs.config_service import SourceError
from jobs.models import Business


class Command(BaseCommand):
    help = (
        "Asks the config service for the machines of all businesses, or of those named. A list that cannot be trusted "
        "is not taken: the last good one stays, the reason is printed, and the exit code is 1."
    )

    def add_arguments(self, parser):
        parser.add_argument("businesses", nargs="*", metavar="BUSINESS", help="short names (default: all)")
        parser.add_argument(
            "--accept-loss", action="store_true", help="take the list even though many machines are missing from it"
        )
        parser.add_argument("--json", action="store_true", help="print JSON, for scripts")

    def handle(self, *args, businesses, accept_loss, json, **options):
        known = {business.slug: business for business in Business.objects.all()}
        if unknown := set(businesses) - set(known):
            raise CommandError(f"No such business: {', '.join(sorted(unknown))}")
        results = [self._sync(known[slug], accept_loss) for slug in businesses or known]
        self._print(results, json)
        if failed := [result["business"] for result in results if "error" in result]:
            raise CommandError(f"Not synced: {', '.join(failed)}")

    def _sync(self, business, accept_loss):
        try:
            sync = business.sync_machines(accept_loss)
        except SourceError as error:
            return {"business": business.slug, "error": str(error)}
        refused = [{"row": row.row_number, "name": row.name, "reason": str(row.reason)} for row in sync.refused]
        facts = {"machines": sync.listed, "added": sync.added, "gone": sync.gone, "refused": refused}
        return {"business": business.slug, **facts}

    def _print(self, results, as_json):
        if as_json:
            self.stdout.write(json.dumps(results, ensure_ascii=False))
            return
        for result in results:
            self.stdout.write(f"{result['business']}: {_in_words(result)}")
            for row in result.get("refused", []):
                self.stdout.write(f"  row {row['row']} ({row['name']}) refused: {row['reason']}")


def _in_words(result):
    if "error" in result:
        return result["error"]
    changes = ", ".join(f"{len(result[what])} {what}" for what in ("added", "gone", "refused") if result[what])
    return f"{result['machines']} machines" + (f"; {changes}" if changes else "")
