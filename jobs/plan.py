"""Which machines of a job are meant for which of its stages."""

import re
from math import prod

from django.core.exceptions import ValidationError
from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from deploy_portal.words import enumerated
from jobs.shares import in_half_width, share, share_of

RANGE = re.compile(r"\[(\d+)-(\d+)\]")
NUMBERED = re.compile(r"(.*?)([0-9]{1,6})([^0-9]*)")
NUMERIC = re.compile(r"[0-9]+ ?%?", re.ASCII)
MOST_NAMES = 20_000
LONGEST_PATTERN = 300  # a host name has 253 characters at most


class Kind(TextChoices):
    """The release stages, in their order."""

    PRE_RELEASE = "pre-release", _("Pre-release")
    GRAY_RELEASE = "gray-release", _("Gray release")
    RELEASE = "release", _("Release")


def plan(machines, wishes):
    """{machine id: stage} for `machines`, from what was written for the first stages; {} when nothing was.

    A wish is a share, spread over the sites, or the host names themselves. What no wish names is for the last stage.
    ValidationError tells which stage cannot be planned so, and why.
    """
    planned = {}
    for stage in Kind.values[:-1]:
        if wish := in_half_width(wishes.get(stage, "")).strip():
            left = [machine for machine in machines if machine.pk not in planned]
            count = _count(len(machines), wish, stage)
            chosen = spread(left, count) if count else _named(left, wish, stage)
            planned |= dict.fromkeys((machine.pk for machine in chosen), stage)
    return planned and {machine.pk: planned.get(machine.pk, Kind.RELEASE.value) for machine in machines}


def spread(machines, count):
    """`count` of `machines`, taken from their sites in turn."""
    sites = {}
    for machine in machines:
        sites.setdefault(machine.site, []).append(machine)
    turns = [(turn, site, machine) for site, there in sites.items() for turn, machine in enumerate(there)]
    turns.sort(key=lambda one: (one[0], one[1]))
    return [machine for _, _, machine in turns[:count]]


def expanded(words):
    """Host names out of a text: web-[001-120] stands for 120 of them, r[1-2]-web-[1-3] for six."""
    names = []
    for word in re.split(r"[\s,;]+", in_half_width(words)):
        names += _expand(word.lower())
        if len(names) > MOST_NAMES:
            raise ValidationError(_("These are more names than one list may have."), code="too_many")
    return [name for name in names if name]


def folded(names):
    """The other way round: as few words as `expanded` makes these names of, in their order."""
    words, run = [], []
    for name in names:
        found = NUMBERED.fullmatch(name)
        parts = found and (found[1], found[3], len(found[2]), int(found[2]))
        if run and parts and parts == (*run[-1][:3], run[-1][3] + 1):
            run.append(parts)
            continue
        words += _ranged(run)
        run = [parts] if parts else []
        words += [] if parts else [name]
    return words + _ranged(run)


def _ranged(run):
    if not run:
        return []
    before, after, width, first = run[0]
    last = f"{run[-1][3]:0{width}}"
    return [f"{before}[{first:0{width}}-{last}]{after}" if len(run) > 1 else f"{before}{last}{after}"]


def _expand(word):
    """What the ranges of a word stand for; the word as it is when that is nothing, or too much."""
    if len(word) > LONGEST_PATTERN:
        return [word]
    count = prod(max(0, int(last) - int(first) + 1) for first, last in RANGE.findall(word))
    return _unrolled(word) if 0 < count <= MOST_NAMES else [word]


def _unrolled(word):
    found = RANGE.search(word)
    if not found:
        return [word]
    before, first, last = word[: found.start()], *found.groups()
    ends = _unrolled(word[found.end() :])
    numbers = range(int(first), int(last) + 1)
    return [f"{before}{number:0{len(first)}}{end}" for number in numbers for end in ends]


def _count(total, wish, stage):
    """How many of `total` a number or a percentage is, None for names; ValidationError when it is an impossible one."""
    if not NUMERIC.fullmatch(wish):
        return None
    try:
        share(wish)
    except ValidationError as error:
        raise ValidationError({_field(stage): error}) from error
    count = share_of(total, wish)
    if count > total:  # a 90 that was meant as 90 % would take all that are left
        words = _("That is more than the %(n)s machines that are chosen.")
        raise ValidationError({_field(stage): words % {"n": total}}, code="too_many")
    return count


def _named(machines, wish, stage):
    by_name = {machine.hostname: machine for machine in machines}
    names = list(dict.fromkeys(expanded(wish)))
    if missing := [name for name in names if name not in by_name]:
        words = _("Not among the chosen machines, or planned for an earlier stage: %(names)s")
        raise ValidationError({_field(stage): words % {"names": enumerated(missing[:20])}}, code="not_chosen")
    return [by_name[name] for name in names]


def _field(stage):
    return f"plan_{stage.replace('-', '_')}"
