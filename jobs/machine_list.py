"""A list of machines to choose from, as a page shows it: its first rows as a table, all of it as data for picker.js."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from operator import sub
from typing import NamedTuple

from django.core.paginator import Paginator
from django.db.models import TextField
from django.db.models.functions import Cast

from jobs.columns import Columns
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


class Mark(NamedTuple):
    """Machines that can be looked at alone: what their button says, their ids, and what is told beside each."""

    button: str
    ids: set
    words: str = ""


class Lean(NamedTuple):
    """A machine as lists have it: no instance, and its labels as the text they are."""

    pk: int
    hostname: str
    address: str
    port: int
    site: str
    label_text: str
    now_on: str | None = None


# What every list has of its machines.
COLUMNS = Lean._fields[:-1]


class Row(NamedTuple):
    """A machine as the table shows it."""

    pk: int
    hostname: str
    address: str
    site: str
    version: str
    note: Note
    chosen: bool
    other_chosen: bool


def lean(machines, *more):
    """The machines of a queryset, in no order, as the columns of what `Lean` has."""
    rows = machines.annotate(label_text=Cast("labels", TextField())).order_by()
    return Columns.of(rows, *COLUMNS, *more)


@dataclass
class MachineList:
    """`machines` are the columns of `lean`, `chosen` sets of ids by form field.

    `versions` are what is on a machine and `notes` what is told, by its id; `marks` are Marks by their names.
    They are shown by site and name, unless `is_sorted`: then as they came.
    """

    machines: Columns
    chosen: dict[str, set]
    versions: dict = field(default_factory=dict)
    notes: dict = field(default_factory=dict)
    marks: dict = field(default_factory=dict)
    asked_page: str | None = None
    is_sorted: bool = False

    def __len__(self):
        return len(self.machines["pk"])

    @cached_property
    def page(self):
        """The page of the table that was asked for, or the nearest there is: positions in `machines`."""
        return Paginator(self._in_order(), ROWS_PER_PAGE).get_page(self.asked_page)

    def _in_order(self):
        """The positions as they are shown. A database, which carries all columns along, sorts ten times as long."""
        if self.is_sorted:
            return range(len(self))
        names = list(self.machines.rows("site", "hostname"))
        return sorted(range(len(names)), key=names.__getitem__)

    @cached_property
    def rows(self):
        columns = [self.machines[name] for name in ("pk", "hostname", "address", "site")]
        return [self._row(*(column[n] for column in columns)) for n in self.page]

    def _row(self, pk, *shown):
        note = self._note(pk)
        chosen, other = (pk in self.chosen.get(name, ()) for name in ("machines", note.other))
        return Row(pk, *shown, self.versions.get(pk) or "", note, chosen, other)

    def _note(self, pk):
        marked = (mark.words for mark in self.marks.values() if mark.words and pk in mark.ids)
        return self.notes.get(pk) or Note(words=next(marked, ""))

    @property
    def chips(self):
        """What can be looked at alone: (name, words)."""
        return [(name, mark.button % {"n": len(mark.ids)}) for name, mark in self.marks.items() if mark.ids]

    @property
    def carried(self):
        """What is chosen on the other pages of the table, as fields."""
        shown = {row.pk for row in self.rows}
        chosen = {name: self._allowed(name).intersection(ids) - shown for name, ids in self.chosen.items() if ids}
        return {name: in_short(ids) for name, ids in chosen.items() if ids}

    def _allowed(self, name):
        """The ids that the field `name` takes."""
        if name in OTHERS:
            return {pk for pk, note in self.notes.items() if note.other == name}
        return set(self.machines["pk"]).difference(pk for pk, note in self.notes.items() if note.blocks)

    @property
    def data(self):
        """Everything as the text of a JSON object: columns as the database wrote them, what many share once.

        A browser sorts them as the table is.
        """
        ids = self.machines["pk"]
        columns = {f"{name}s": self.machines.texts[name] for name in ("hostname", "port", "site")}
        columns |= {"addresses": self.machines.texts["address"], "labels": self.machines.texts["label_text"]}
        more = {
            "ids": [*ids[:1], *map(sub, ids[1:], ids)],  # small numbers, small on their way
            "versions": _shared(self.versions),
            "notes": _shared(self.notes),
            "marks": {name: [in_short(mark.ids), mark.words] for name, mark in self.marks.items()},
            "chosen": {name: in_short(chosen) for name, chosen in self.chosen.items()},
            "sorted": self.is_sorted,
        }
        texts = columns | {name: json.dumps(value) for name, value in more.items()}
        return "{" + ",".join(f'"{name}":{text}' for name, text in texts.items()) + "}"


def _shared(values):
    """[value, the ids of those that have it] for each different value of {id: value}."""
    ids = {}
    for pk, value in values.items():
        ids.setdefault(value, []).append(pk)
    return [[value, in_short(having)] for value, having in ids.items() if value]
