"""What a start would do, found out without starting anything: for the page that checks it, and for a terminal."""

from collections import defaultdict
from datetime import timedelta
from operator import itemgetter

from jobs.models import Freeze, Machine
from releases.batches import batches
from releases.models import Worker
from releases.models.machine_run import versions_now

# A freeze that begins within this time is named before a start.
FREEZE_SOON = timedelta(hours=12)


def check(stage, form, by):
    """What a start by `by` would do, of `stage` as its form, which is valid, has it; in as many queries for many."""
    machines, sites = form.chosen, _by_site(form.chosen)
    pace = stage.pace_of(len(machines))
    now_on = versions_now(Machine.objects.filter(jobs=stage.job), stage.job.business)
    return {
        "machines": machines,
        "now_on": now_on,
        "versions": _by_version(machines, now_on),
        "sites": sites,
        "sites_without_worker": Worker.objects.unserved(site for site, *_names in sites),
        "batches": batches(len(machines), pace["batch_size"], stage.canary),
        "budget": pace["failure_budget"],
        "freezes": Freeze.objects.met(stage.job, by, FREEZE_SOON),
        "waiting": form.cleaned_data["when_free"],
        "departures": stage.departures(machines),
    }


def _by_site(machines):
    return _named_by((site, hostname) for _pk, hostname, site in machines)


def _by_version(machines, now_on):
    """As `_by_site`, by the version there now, most machines first: one may have what a later job put there."""
    found = _named_by((now_on.get(pk) or "", hostname) for pk, hostname, _site in machines)
    return sorted(found, key=itemgetter(1), reverse=True)


def _named_by(pairs):
    """(value, number, names in one text): a template that joined them would look at each."""
    found = defaultdict(list)
    for value, hostname in pairs:
        found[value].append(hostname)
    return [(value, len(names), ", ".join(sorted(names))) for value, names in sorted(found.items())]
