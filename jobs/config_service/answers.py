"""What the sources share: how much of an answer they take, and how they read JSON that may be hostile."""

import json
import re

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from jobs.config_service.base import SourceError
from jobs.config_service.rows import MAX_LABEL_LENGTH

MAX_BYTES = 64 * 1024 * 1024
MAX_OBJECTS = 500_000
FIELD = re.compile(r"hostname|address|port|user|labels(\.[A-Za-z0-9_.-]+)?")


class Allowance:
    """What one list may still cost: bytes, and objects, since `{},{},...` takes twenty times its bytes in memory."""

    def __init__(self):
        self.bytes = MAX_BYTES
        self.objects = MAX_OBJECTS

    def spend(self, size=0, objects=0):
        """Takes `size` bytes and `objects` off; SourceError when that is more than is left."""
        self.bytes -= size
        self.objects -= objects
        if self.bytes < 0 or self.objects < 0:
            raise SourceError(_("The list is larger than 64 MB or half a million objects. Split the business."))


def decode(data):
    """The text of `data`, which must be UTF-8, with or without a byte order mark."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(_("The list is not UTF-8 text. Save or serve it as UTF-8.")) from None


def parse_json(data, allowance):
    """The value that the bytes `data` hold. Raises SourceError when it is no JSON, or more than `allowance` permits."""
    allowance.spend(objects=data.count(b"{") + data.count(b"["))
    text = decode(data)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # RecursionError: thousands of brackets inside each other
        raise SourceError(_("The answer is not complete JSON. Look at what the source gives.")) from None


def at(value, path):
    """What the dotted `path` points at inside `value`; None when nothing is there; "" is `value` itself."""
    for key in path.split(".") if path else []:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def list_at(value, path):
    """The list at `path`; SourceError when there is none, since a missing list is not an empty one."""
    found = at(value, path)
    if not isinstance(found, list):
        reason = _("The answer has no list at {place}. Look at what the source gives, and at the options.")
        raise SourceError(format_lazy(reason, place=path or _("its top level")))
    return found


def offset_after(items):
    """Where the page after `items` is asked from: their last one, by which `added` sees that none came or went."""
    # After a single one that would be the first question again.
    return len(items) - 1 if len(items) > 1 else len(items)


def added(items, page, known):
    """What `page`, asked from `offset_after(items)`, adds to them. `known(item)` is what an item is known by.

    SourceError when it begins with another one: the list moved, and going on would skip or repeat a machine.
    """
    if len(items) < 2:
        return page
    if not page or known(page[0]) != known(items[-1]):
        raise SourceError(
            _("The list changed between two pages. Ask again; if that does not help, let the service sort its list.")
        )
    return page[1:]


def refuse_other_counts(counts, found):
    """SourceError unless a service, which tells on each page how many machines it has, always told as many."""
    if any(count != found for count in counts):
        reason = _(
            "The service gave {found} machines but counts otherwise: its list changed meanwhile, or is cut. Ask again."
        )
        raise SourceError(format_lazy(reason, found=found))


def with_value(value, path, new):
    """A copy of the object `value` that holds `new` at the dotted `path`."""
    key, _dot, rest = path.partition(".")
    inner = value.get(key)
    return {**value, key: with_value(inner if isinstance(inner, dict) else {}, rest, new) if rest else new}


def mapped(row, item, fields):
    """`row` with the fields that `fields` names taken from where they are in `item`, the answer's own object."""
    if not fields or not isinstance(item, dict):
        return row
    found = {field: at(item, path) for field, path in fields.items()}
    row = {**row, **{field: value for field, value in found.items() if not field.startswith("labels.")}}
    labels = {field[7:]: value for field, value in found.items() if field.startswith("labels.")}
    own = row.get("labels") or {}
    return {**row, "labels": {**own, **labels}} if labels and isinstance(own, dict) else row


def joined(names):
    """As many of `names` as a label holds, None for none: a longer label would cost the machine."""
    text = ",".join(names)
    return (text if len(text) <= MAX_LABEL_LENGTH else text[: MAX_LABEL_LENGTH + 1].rpartition(",")[0]) or None


def fields_problems(options):
    fields = options.get("fields", {})
    if all(FIELD.fullmatch(field) and isinstance(path, str) and path for field, path in fields.items()):
        return []
    return [_("“fields” gives, for hostname, address, port, user, labels or labels.<name>, a dotted path.")]
