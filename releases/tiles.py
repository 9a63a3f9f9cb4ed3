"""Machines as tiles: in groups, and as large as there is room for."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from operator import attrgetter

from django.utils.translation import gettext as _

from releases.counts import ordered
from releases.models import MachineRun, ReleaseStage
from releases.models.queue import FAILURES

# Up to so many machines, a tile has this size; see portal.css.
SIZES = [(40, "t-40"), (300, "t-300"), (1000, "t-1000")]
TOLD = [*FAILURES, "rolled_back", "excused"]
# A label that makes more groups than this, or as many as there are machines, is none to group by.
MOST_GROUPS = 100
# By these it goes anyway, whatever a label of that name says.
SITE, STAGE = "site", "stage"


@dataclass
class Tile:
    """One machine, and what of this job is on it; `ran` is a row of its machine run, `put_by` the version's job."""

    machine_id: int
    hostname: str
    site: str
    status: str
    version: str | None
    ran: tuple | None = None
    stage: ReleaseStage | None = None
    fill: int = 0
    put_by: int | None = None
    labels: dict = field(default_factory=dict)

    @property
    def short_name(self):
        """The last digits of the host name, before its domain: they tell neighbours apart."""
        return re.search(r"\d*(?=\.[a-z]|$)", self.hostname)[0] or self.hostname[-4:]


@dataclass
class Group:
    """Tiles under one heading; those whose status is `goal` are done."""

    name: str
    tiles: list[Tile]
    goal: str = MachineRun.Status.SUCCEEDED

    @property
    def told(self):
        """(status, number) pairs of what its heading names beside how many are done."""
        return ordered(Counter(tile.status for tile in self.tiles if tile.status in TOLD))

    @property
    def done(self):
        return sum(tile.status == self.goal for tile in self.tiles)

    @property
    def has_namesakes(self):
        """Whether the short name of a machine is that of another, too."""
        return len({tile.short_name for tile in self.tiles}) < len(self.tiles)


def size_of(groups):
    """The class of how large these tiles are and, where two of a group would read alike, of whole names."""
    number = sum(len(group.tiles) for group in groups)
    name = next((name for limit, name in SIZES if number <= limit), "t-5000")
    return "t-300 whole" if name == "t-300" and any(group.has_namesakes for group in groups) else name


def grouped(tiles, by, stages):
    """The tiles of a job that has these stages, by site, by stage or by the label that `by` names."""
    if by == SITE:
        return by_site(tiles)
    tiles = sorted(tiles, key=attrgetter("hostname"))
    return by_stage(tiles, stages) if by == STAGE else by_label(tiles, by)


def by_site(tiles, goal=MachineRun.Status.SUCCEEDED):
    return [Group(site or _("No site"), some, goal) for site, some in _by(attrgetter("site"), tiles).items()]


def by_stage(tiles, stages):
    """By the stage in which each ran last or, where that is none, for which it is planned."""
    planned = {pk: stage for stage in stages for pk in stage.planned_machines}
    by_id = {stage.pk: stage for stage in stages}
    # Not `tile.stage`, which an excused machine has none to tell of.
    groups = _by(lambda tile: by_id[tile.ran.stage_id] if tile.ran else planned.get(tile.machine_id), tiles)
    names = {stage: stage.get_kind_display() for stage in stages} | {None: _("In no stage yet")}
    return [Group(name, groups[stage]) for stage, name in names.items() if stage in groups]


def by_label(tiles, label):
    groups = _by(lambda tile: tile.labels.get(label, ""), tiles)
    without = _("Without %(label)s") % {"label": label}
    return [Group(value or without, groups[value]) for value in sorted(groups, key=_last_if_empty)]


def labels_to_group_by(tiles):
    """The names of the labels that make a few groups of these machines, of which those without it are one."""
    values, having = defaultdict(set), Counter()
    for tile in tiles:
        having.update(tile.labels.keys())
        for name, value in tile.labels.items():
            values[name].add(value)
    for name, number in having.items():
        if number < len(tiles):
            values[name].add("")
    most = min(MOST_GROUPS, len(tiles) - 1)
    return sorted(name for name in values.keys() - {SITE, STAGE} if 1 < len(values[name]) <= most)


def _by(key, tiles):
    groups = defaultdict(list)
    for tile in tiles:
        groups[key(tile)].append(tile)
    return groups


def _last_if_empty(value):
    return value == "", value
