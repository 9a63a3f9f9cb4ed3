"""Events as a table for spreadsheets, whose cells are data and nothing else."""

import csv
import json
from itertools import chain, islice

from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from deploy_portal.templatetags.portal import inert, status_word

BYTE_ORDER_MARK = "\ufeff"  # without it Excel takes UTF-8 for something else
ROWS_AT_ONCE = 500
# What a spreadsheet takes for the beginning of a formula, also as the wide characters of Chinese and Japanese.
FORMULA = tuple("=+-@\t\n＝＋－＠")


def event_rows(events):
    """A row of titles, and one for each event, with no more than some events in memory."""
    yield [
        *[_("when"), _("job"), _("title"), _("version"), _("business"), _("of no job, but of"), _("who"), _("what")],
        *[_("stage"), _("from"), _("to"), _("why"), _("from where"), _("detail")],
        *[_("number in its chain"), _("hash of the event before"), _("hash")],
    ]
    for event in events.select_related("job__business", "actor").iterator(chunk_size=ROWS_AT_ONCE):
        job = event.job
        yield [
            timezone.localtime(event.at).isoformat(" ", "milliseconds"),
            *([job.pk, job.title, job.version, job.business.name] if job else ["", "", "", ""]),
            *[event.subject, event.actor or _("the portal"), event.get_verb_display(), event.stage_in_words],
            *[status_word(event.was), status_word(event.became), event.reason, event.origin],
            json.dumps(event.detail, ensure_ascii=False, sort_keys=True) if event.detail else "",
            *[event.number, event.previous, event.digest],
        ]


def csv_response(name, rows):
    """The rows as a CSV file that is sent while they are read."""
    # In one without quotes LibreOffice takes a ; or a tab for its end, and what follows for the next.
    write = csv.writer(_Echo(), quoting=csv.QUOTE_ALL).writerow
    lines = map(write, ([_cell(value) for value in row] for row in rows))
    blocks = iter(lambda: "".join(islice(lines, ROWS_AT_ONCE)), "")
    response = StreamingHttpResponse(chain([BYTE_ORDER_MARK], blocks), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _cell(value):
    text = inert(value)
    return f"'{text}" if text.lstrip(" ").startswith(FORMULA) else text


class _Echo:
    """The file of a csv.writer that hands each line back."""

    def write(self, line):
        return line
