"""What the templates of every page share: words for states, bars, and text from elsewhere made harmless to look at."""

import math
import unicodedata
from datetime import timedelta

import segno
from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join, mark_safe
from django.utils.timesince import timesince
from django.utils.translation import gettext_lazy as _

from deploy_portal.ways_back import page_with_button, way_back
from deploy_portal.words import between_sentences, enumerated

register = template.Library()
register.filter(page_with_button)
register.filter(way_back)
register.filter(enumerated)
register.simple_tag(between_sentences)

# A segment is never thinner than this share of its bar, in %: one failed machine of 2,000 must be seen.
LEAST_SHARE = 0.8

STATUS_WORDS = {
    "queued": _("Waiting"),
    "claimed": _("Claimed"),
    "running": _("Running"),
    "succeeded": _("Succeeded"),
    "failed": _("Failed"),
    "timed_out": _("Timed out"),
    "unreachable": _("Unreachable"),
    "unknown": _("Unknown"),
    "cancelled": _("Cancelled"),
    "not_run": _("Not run"),
    "rolled_back": _("Rolled back"),
    "held": _("Held"),
    "excused": _("Excused"),
    "gone": _("Gone"),
    "changed": _("Changed"),
    "waiting": _("Waiting"),
    "skipped": _("Skipped"),
    "paused": _("Paused"),
    "approved": _("Approved"),
    "in_progress": _("In progress"),
    "released": _("Released"),
    "sent_back": _("Sent back"),
    "not_released": _("Not released"),
    "withdrawn": _("Withdrawn"),
}

PICKER_ROW = (
    '<tr data-hostname="{hostname}"{gone}>'
    '<td><input type="checkbox"{box} id="m{id}" autocomplete="off"></td>'
    '<td><label for="m{id}"><code>{hostname}</code></label></td>'
    '<td class="more"><code>{address}</code></td>'
    '<td class="more">{site}</td>'
    "<td><code>{version}</code></td>"
    "<td>{status}{words}</td></tr>"
)
PICKER_OTHER = ' <span class="more">·</span> <label><input type="checkbox"{} autocomplete="off"> {}</label>'

MESSAGE_TONES = {"success": "ok", "error": "bad", "warning": "warn"}


@register.filter
def status_word(status):
    """The translated word of a status; one without a word of its own is shown as it is."""
    return STATUS_WORDS.get(str(status), status)


@register.filter
def message_tone(message):
    return MESSAGE_TONES.get(message.level_tag, "run")


class _Visible(dict):
    """A table for `str.translate` that fills itself: what has no shape of its own gets one, line ends and tabs stay."""

    def __missing__(self, code):
        character = chr(code)
        if character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
            shown = character
        elif code < 0x20:
            shown = chr(0x2400 + code)
        else:
            shown = f"⟨U+{code:04X}⟩"
        self[code] = shown
        return shown


_visible = _Visible()


@register.filter
def inert(text):
    """Text from a log or a person with control characters and direction overrides shown instead of obeyed."""
    text = str(text)
    return text if text.isprintable() else text.translate(_visible)


@register.simple_tag
def bar_segments(parts, total=None):
    """The segments of a bar, as `x` and `width` in %, from `parts`: pairs of class and count."""
    parts = [(kind, count) for kind, count in parts if count > 0]
    total = total or sum(count for _kind, count in parts)
    widths = [max(100 * count / total, LEAST_SHARE) for _kind, count in parts]
    if sum(widths) > 100:
        # What the thin ones gained is taken from the widest one.
        widths[widths.index(max(widths))] -= sum(widths) - 100
    segments, x = [], 0
    for (kind, _count), width in zip(parts, widths, strict=True):
        # As text: a localised number could have a decimal comma, which SVG does not know.
        segments.append({"kind": kind, "x": f"{x:.2f}%", "width": f"{width:.2f}%"})
        x += width
    return segments


@register.filter
def json_element(text, element_id):
    """A script element that holds `text`, which is JSON already; nothing in it can end the element."""
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return format_html('<script id="{}" type="application/json">{}</script>', element_id, mark_safe(text))  # noqa: S308


@register.filter
def picker_rows(rows):
    """The rows of a picker's table. There are a hundred: a template would take longer for them than for all else."""
    return format_html_join("", PICKER_ROW, (_picker_row(row) for row in rows))


def _picker_row(row):
    note = row.note
    box = " disabled" if note.blocks else _named("machines", row.pk, row.chosen)
    return {
        "gone": mark_safe(' class="gone"') if note.status == "gone" else "",
        "box": box,
        "id": row.pk,
        "hostname": row.hostname,
        "address": row.address,
        "site": row.site,
        "version": row.version or "–",
        "status": format_html('<span class="status {}">{}</span>', note.status, note.word) if note.word else "",
        "words": format_html("<small>{}{}</small>", note.words, _picker_other(row)) if note.words else "",
    }


def _picker_other(row):
    """The box that names a machine which is not free in another field."""
    if not row.note.other:
        return ""
    box = _named(row.note.other, row.pk, row.other_chosen)
    return format_html(PICKER_OTHER, box, row.note.other_words)


def _named(name, value, is_checked):
    return format_html(' name="{}" value="{}"{}', name, value, " checked" if is_checked else "")


@register.simple_tag(takes_context=True)
def current(context, name):
    """`aria-current` for the link of the navigation whose page, or a page beneath it, is shown."""
    url, path = reverse(name), context["request"].path
    return mark_safe(' aria-current="page"') if path == url or (url != "/" and path.startswith(url)) else ""


@register.simple_tag
def time_zone():
    """The time zone of every time on the page, as "Asia/Shanghai (UTC+8)"."""
    minutes = round(timezone.localtime().utcoffset().total_seconds() / 60)
    hours, rest = divmod(abs(minutes), 60)
    offset = f"{'+' if minutes > 0 else '-'}{hours}" + (f":{rest:02}" if rest else "")
    in_utc = f"UTC{offset}" if minutes else "UTC"
    name = timezone.get_current_timezone_name()
    return name if name == in_utc else f"{name} ({in_utc})"


@register.simple_tag
def qr_code(text):
    """`text` as a QR code to be read from the screen: dark on light in a dark theme too."""
    return mark_safe(segno.make(text).svg_inline(scale=4, border=4, dark="#000", light="#fff"))  # noqa: S308


@register.filter
def minutes(duration):
    """A timedelta in whole minutes, rounded up."""
    return math.ceil(duration.total_seconds() / 60)


@register.filter
def duration(delta):
    """A timedelta as a person says it: 41 s, 2 min 10 s, 1 h 12 min."""
    seconds = round(delta.total_seconds())
    if seconds < 60:
        return _("%(s)d s") % {"s": seconds}
    if seconds < 3600:
        return _("%(m)d min %(s)d s") % {"m": seconds // 60, "s": seconds % 60}
    return _("%(h)d h %(m)d min") % {"h": seconds // 3600, "m": seconds % 3600 // 60}


@register.filter
def roughly(delta):
    """A timedelta as one that is only guessed: up to the next ten seconds, from two minutes on to the next minute."""
    seconds = delta.total_seconds()
    if seconds <= 110:
        return _("%(s)d s") % {"s": 10 * math.ceil(seconds / 10)}
    minutes = math.ceil(seconds / 60)
    return _("%(m)d min") % {"m": minutes} if minutes < 60 else duration(timedelta(minutes=minutes))


@register.filter
def age(at):
    """How long ago a time was: to the second within the first minute, in words after that."""
    gone = max(timezone.now() - at, timedelta())
    return duration(gone) if gone < timedelta(minutes=1) else timesince(at)


@register.filter
def clock(at):
    """A time of today to the second, one of another day with that day: unlike an age it stays true on an open page."""
    local = timezone.localtime(at)
    is_today = local.date() == timezone.localdate()
    return date_format(local, "H:i:s" if is_today else "Y-m-d H:i")
