"""A list of machines to choose from, as a page shows it: its first rows as a table, all of it as data for picker.js."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, pairwise
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


class Lean(NamedTuple):
    """A machine as lists have it: no instance, and its labels as the text they are."""

    pk: int
    hostname: str
    address: str
    port: int
    site: str
    label_text: str
    now_on: str | None = None


class Row(NamedTuple):
    """A machine as the table shows it."""

    machine: Lean
    version: str
    note: Note
    chosen: bool
    other_chosen: bool


def lean(machines, *more):
    """The machines of a queryset, by site and name, as plain tuples of what `Lean` has: those are the cheapest."""
    rows = machines.annotate(label_text=Cast("labels", TextField())).order_by("site", "hostname")
    return list(rows.values_list("pk", "hostname", "address", "port", "site", "label_text", *more))


@dataclass
class MachineList:
    """`machines` are those of `lean`, `chosen` sets of ids by form field.

    `versions` are what is on a machine and `notes` what is told, by its id. `marks` are those that can be looked at
    alone: what their button says, and their ids, by name.
    """

    machines: list[tuple]
    chosen: dict[str, set]
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
        return [self._row(Lean(*machine)) for machine in self.page]

    def _row(self, machine):
        note = self.notes.get(machine.pk, Note())
        chosen, other = (machine.pk in self.chosen.get(name, ()) for name in ("machines", note.other))
        return Row(machine, self.versions.get(machine.pk) or "", note, chosen, other)

    @property
    def chips(self):
        """What can be looked at alone: (name, words)."""
        return [(name, words % {"n": len(marked)}) for name, (words, marked) in self.marks.items() if marked]

    @cached_property
    def columns(self):
        """The machines again, by column."""
        return list(zip(*self.machines, strict=True)) or [()] * len(Lean._fields)

    @property
    def carried(self):
        """What is chosen on the other pages of the table, as fields."""
        elsewhere = set(self.columns[0]).difference(row.machine.pk for row in self.rows)
        chosen = {name: in_short(elsewhere & ids & self._allowed(name)) for name, ids in self.chosen.items()}
        return {name: value for name, value in chosen.items() if value}

    def _allowed(self, name):
        """The ids that the field `name` takes."""
        if name in OTHERS:
            return {pk for pk, note in self.notes.items() if note.other == name}
        return set(self.columns[0]).difference(pk for pk, note in self.notes.items() if note.blocks)

    @property
    def data(self):
        """Everything by columns, so that it is small on its way; ids as differences, what repeats as `_column`."""
        ids, hostnames, addresses, _ports, sites, labels, *_ = self.columns
        return {
            "ids": list(ids[:1]) + [after - before for before, after in pairwise(ids)],
            "hostnames": hostnames,
            "addresses": addresses,
            "sites": _column(sites),
            "labels": _column(labels),
            "versions": _column(self.versions.get(pk) or "" for pk in ids),
            "notes": _column(self.notes.get(pk, ()) for pk in ids),
            "marks": {name: in_short(marked) for name, (_, marked) in self.marks.items()},
            "chosen": {name: in_short(chosen) for name, chosen in self.chosen.items()},
        }


def _column(values):
    """The different values, and which of them the rows have: [its number, in how many rows one after the other]."""
    numbers = {}
    runs = [(numbers.setdefault(value, len(numbers)), len(list(rows))) for value, rows in groupby(values)]
    return [list(numbers), runs]
