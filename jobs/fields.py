import contextlib
import re
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from django.conf import settings
from django.core.exceptions import ValidationError
from django.forms import CharField, ModelChoiceField, ModelMultipleChoiceField, SelectMultiple
from django.forms.models import ModelChoiceIterator
from django.utils.translation import gettext_lazy as _

from deploy_portal.templatetags.portal import inert
from jobs.columns import Columns
from jobs.validators import printable_text

# An id, or a range of ids; a value is some of them with commas between, and may be given more than once.
IDS = re.compile(r"([1-9][0-9]{0,17})(?:-([1-9][0-9]{0,17}))?", re.ASCII)
# So many can be chosen at once, or all that a list may have, if that is more; what names more is not written out.
MOST = 50_000


class Chosen(NamedTuple):
    """A machine that was chosen, without the cost of an instance."""

    pk: int
    hostname: str
    site: str

    def __str__(self):
        return self.hostname


class Placed(NamedTuple):
    """A Chosen machine and where it is, which a job remembers."""

    pk: int
    hostname: str
    address: str
    port: int
    user: str
    site: str

    def __str__(self):
        return self.hostname


class MachinesField(ModelMultipleChoiceField):
    """Machines out of a narrowed queryset: one query however many are named, and never an empty choice that means all.

    The ids come one by one, as from check boxes, or in one value such as `1-200,205`; the machines as Chosen or Placed.
    `only`, where it is set, are the ids of those of the queryset that can be chosen.
    `why_not` explains ids that cannot: it takes them and returns one sentence each.
    """

    widget = SelectMultiple
    default_error_messages = {
        "required": _("Choose at least one machine."),
        "malformed": _("This is not a machine's id: %(value)s"),
        "twice": _("Some machines were named twice."),
        "too_many": _("These are more machines than can be chosen at once."),
    }

    def __init__(self, *, kind=Chosen, **kwargs):
        super().__init__(**kwargs)
        self.kind = kind
        self.only = None
        self.why_not = lambda ids: [_("Some of these machines cannot be chosen here.")]

    def clean(self, value):
        if not any(map(str, value or [])):  # an empty value, too, is how a form says that it has none
            if not self.required:
                return []
            raise ValidationError(self.error_messages["required"], code="required")
        ids = self._ids(value)
        if len(set(ids)) < len(ids):
            raise ValidationError(self.error_messages["twice"], code="twice")
        offered = self._offered()
        if missing := [pk for pk in ids if pk not in offered]:
            raise ValidationError([ValidationError(words, code="not_offered") for words in self.why_not(missing)])
        return [offered[pk] for pk in ids]

    def _offered(self):
        """Those that can be chosen, by their ids."""
        columns = Columns.of(self.queryset.order_by(), *self.kind._fields)
        # What `kind._make` does, for ten thousand without a call of Python.
        rows = map(partial(tuple.__new__, self.kind), columns.rows(*self.kind._fields))
        offered = dict(zip(columns["pk"], rows, strict=True))
        return offered if self.only is None else {pk: offered[pk] for pk in offered.keys() & self.only}

    def has_changed(self, initial, data):
        return self.prepare_value(initial) != self.prepare_value(data)

    def prepare_value(self, value):
        """The ids that a form shows as chosen; what is no id is left out."""
        if isinstance(value, set):  # of ids already
            return value
        ids = []  # what is named again counts again, or it could be for ever
        for word in _words(value or [])[: self._most()]:  # more cannot be chosen, however much was sent
            with contextlib.suppress(ValidationError):
                ids += self._range(word, len(ids))
        return set(ids)

    def _ids(self, value):
        ids = []
        for word in _words(value):
            ids += self._range(word, len(ids))
        return ids

    def _range(self, word, before):
        """The ids of `word`; so many came before it."""
        found = IDS.fullmatch(word)
        if not found or int(found[2] or found[1]) < int(found[1]):
            shown = {"value": inert(word[:40])}
            raise ValidationError(self.error_messages["malformed"], code="malformed", params=shown)
        first, last = int(found[1]), int(found[2] or found[1])
        if before + last - first >= self._most():
            raise ValidationError(self.error_messages["too_many"], code="too_many")
        return range(first, last + 1)

    def _most(self):
        return max(MOST, settings.CONFIG_SERVICE_MAX_MACHINES)


class OfferedChoices(ModelChoiceIterator):
    def __iter__(self):
        return iter([self.choice(row) for row in self.queryset])


class OfferedField(ModelChoiceField):
    """One of a few rows that are offered, which are read once, however often they are shown or looked up."""

    iterator = OfferedChoices

    def to_python(self, value):
        chosen = next((row for row in self.queryset if str(row.pk) == str(value)), None)
        if value and not chosen:
            raise ValidationError(self.error_messages["invalid_choice"], "invalid_choice", {"value": value})
        return chosen


class LinesField(CharField):
    """Text whose line ends count as one character each, as browsers count them, though they send two."""

    def to_python(self, value):
        return super().to_python(value).replace("\r\n", "\n")


class ReasonField(LinesField):
    """Why a person does something, in their words."""

    def __init__(self, **kwargs):
        super().__init__(**{"label": _("Why"), "max_length": 2000, "validators": [printable_text]} | kwargs)


def _words(value):
    return [word for item in value for word in str(item).split(",")]


def in_short(ids):
    """Ids as the value of one field: ranges of them, such as `1-200,205`."""
    ids = sorted(set(ids))
    if ids and ids[-1] - ids[0] + 1 == len(ids):  # as is usual, and quick to tell
        return f"{ids[0]}-{ids[-1]}" if len(ids) > 1 else str(ids[0])
    gaps = [(before, after) for before, after in pairwise(ids) if after > before + 1]
    firsts = ids[:1] + [after for _, after in gaps]
    lasts = [before for before, _ in gaps] + ids[-1:]
    ranges = zip(firsts, lasts, strict=True)
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
