"""A machine that several businesses list is one row: it moves only when the sources of all of them say so."""

from collections import defaultdict
from itertools import count

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from jobs.config_service.rows import MachineRow, Refused
from jobs.models.machine import FACTS, PLACE, Listing, Machine, Place


def settle(business, machines, refused):
    """(machines, refused, {hostname: refused place}) of an answer, once what other businesses list was respected.

    A row that would move a machine which another business lists is refused, and the machine stays listed where it is,
    until the last answer of each of the others gave it at the same new place.
    """
    there = _places_elsewhere(business, machines)
    given = ((row.hostname, [getattr(row, name) for name in PLACE]) for row in machines)
    moves = {hostname: place for hostname, place in given if there.get(hostname, place) != place}
    against = _against(business, moves) if moves else {}
    if not against:
        return machines, refused, {}
    claimed = [
        Refused(number, row.hostname, _why(there[row.hostname], against[row.hostname]))
        for number, row in zip(_row_numbers(refused), machines, strict=False)
        if row.hostname in against
    ]
    kept = [row for row in machines if row.hostname not in against]
    return (
        kept + _staying(business, against, kept),
        sorted(refused + claimed, key=lambda row: row.row_number),
        {hostname: moves[hostname] for hostname in against},
    )


def _places_elsewhere(business, machines):
    """{hostname: place} of these machines, and more, that other businesses list."""
    listed = Listing.objects.live().exclude(business=business)
    others = Machine.objects.of_list(business, machines).filter(listings__in=listed).order_by()
    return {hostname: place for hostname, *place in others.values_list("hostname", *PLACE)}


def _against(business, moves):
    """{hostname: short names} of the other businesses whose last answer did not give the machine at its new place."""
    others = Listing.objects.live().exclude(business=business).order_by("business__slug")
    against = defaultdict(list)
    for hostname, slug, refused_place in others.values_list("machine__hostname", "business__slug", "refused_place"):
        if hostname in moves and refused_place != moves[hostname]:
            against[hostname].append(slug)
    return against


def _row_numbers(refused):
    """The numbers that the source's rows have which were not refused, in their order."""
    taken = {row.row_number for row in refused}
    return (number for number in count(1) if number not in taken)


def _why(place, slugs):
    reason = _(
        "Other businesses list it at {place}. It moves once their sources say the same: correct this one, or ask "
        "theirs by sync_machines {businesses}"
    )
    return format_lazy(reason, place=Place(*place), businesses=" ".join(slugs))


def _staying(business, hostnames, kept):
    """Those of the machines that are listed here already, as they are; not where another machine is by now."""
    occupied = {(row.address, row.port) for row in kept}
    live = Machine.objects.live_in(business).values("hostname", *FACTS)
    rows = [MachineRow(**facts) for facts in live if facts["hostname"] in hostnames]
    return [row for row in rows if (row.address, row.port) not in occupied]
