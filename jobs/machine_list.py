"""A list of machines to choose from, as a page shows it: its first rows as a table, all of it as data for picker.js."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from django.core.paginator import Paginator
from django.db.models import TextField
from django.db.models.functions import Cast

from jobs.fields import in_short

ROWS_PER_PAGE = 100
# The fields in which a machine is named that `machines` does not take.
OTHERS = ("when_free", "moved")


class Note(NamedTuple):
    """What is told beside a machine: a status and its word, and more words.

    One that is blocked may still be named, in the field `other`.
    """

    status: str = ""
    word: str = ""
    words: str = ""
    blocks: bool = False
    other: str = ""
    other_words: str = ""


class Row(NamedTuple):
    """A machine as the table shows it."""

    machine: tuple
    version: str
    note: Note
    chosen: bool
    other_chosen: bool


def lean(machines, *more):
    """The rows of a queryset of machines, by site and name: no instances, and their labels as the text they are."""
    rows = machines.annotate(label_text=Cast("labels", TextField())).order_by("site", "hostname")
    return list(rows.values_list("pk", "hostname", "address", "port", "site", "label_text", *more, named=True))


@dataclass
class MachineList:
    """`chosen` are the ids by form field, `versions` what is on a machine and `notes` what is told, by its id.

    `marks` are those that can be looked at alone: what their button says, and their ids, by name.
    """

    machines: list
    chosen: dict
    versions: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)
    marks: dict = field(default_factory=dict)
    asked_page: str | None = None

    def __len__(self):
        return len(self.machines)

    @cached_property
    def page(self):
        """The page of the table that was asked for, or the nearest there is."""
        return Paginator(self.machines, ROWS_PER_PAGE).get_page(self.asked_page)

    @cached_property
    def rows(self):
        return [self._row(machine) for machine in self.page]

    def _row(self, machine):
        note = self.notes.get(machine.pk, Note())
        chosen, other = (machine.pk in self.chosen.get(name, ()) for name in ("machines", note.other))
        return Row(machine, self.versions.get(machine.pk) or "", note, chosen, other)

    @property
    def chips(self):
        """What can be looked at alone: (name, words)."""
        return [(name, words % {"n": len(marked)}) for name, (words, marked) in self.marks.items() if marked]

    @property
    def carried(self):
        """What is chosen on the other pages of the table, as fields."""
        here = {row.machine.pk for row in self.rows}
        elsewhere = [machine.pk for machine in self.machines if machine.pk not in here]
        chosen = {
            name: in_short(pk for pk in elsewhere if pk in ids and self._may_be(name, pk))
            for name, ids in self.chosen.items()
        }
        return {name: value for name, value in chosen.items() if value}

    def _may_be(self, name, pk):
        note = self.notes.get(pk, Note())
        return note.other == name if name in OTHERS else not note.blocks

    @property
    def data(self):
        """Everything by columns, so that it is small on its way; ids as differences, what repeats as a table."""
        ids = [machine.pk for machine in self.machines]
        return {
            "ids": ids[:1] + [after - before for before, after in pairwise(ids)],
            "hostnames": [machine.hostname for machine in self.machines],
            "addresses": [machine.address for machine in self.machines],
            "sites": _column([machine.site for machine in self.machines]),
            "labels": _column([machine.label_text for machine in self.machines]),
            "versions": _column([self.versions.get(pk) or "" for pk in ids]),
            "notes": _column([self.notes.get(pk, ()) for pk in ids]),
            "marks": {name: in_short(marked) for name, (_, marked) in self.marks.items()},
            "chosen": {name: in_short(chosen) for name, chosen in self.chosen.items()},
        }


def _column(values):
    """The different values, and for each row which of them it has."""
    numbers = {}
    rows = [numbers.setdefault(value, len(numbers)) for value in values]
    return [list(numbers), rows]
