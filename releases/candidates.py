"""Every machine of a job as a stage sees it: to be had, or why not."""

from dataclasses import dataclass
from itertools import compress

from django.db.models import Exists, OuterRef, Prefetch, prefetch_related_objects
from django.utils.translation import gettext as _

from deploy_portal.templatetags.portal import clock, status_word
from jobs.columns import Columns
from jobs.machine_list import Lean, Note, lean
from jobs.models import Business, JobMachine, Listing, Machine
from jobs.models.machine import HOST
from jobs.rights import Right
from releases.models import MachineRun, Run
from releases.models.machine_run import with_versions
from releases.models.queue import FAILURES


@dataclass(slots=True)
class Candidate:
    """`machine` is a Lean one, or an instance; `by` the machine run that holds or released it.

    `state` is "free", "held", "gone", "changed" (moved since it was chosen), "released" or "excused". `last`, where it
    was asked for, is the newest machine run of the job there. `is_hidden`: its holder's job is not for the reader.
    """

    machine: object
    state: str
    by: MachineRun | None = None
    gone_at: object = None
    can_wait: bool = False
    excuse: JobMachine | None = None
    move: JobMachine | None = None
    renamed_to: str = ""
    last: MachineRun | None = None
    is_hidden: bool = False

    @property
    def went_wrong(self):
        """Whether the newest run of this job here did not end well."""
        return self.last is not None and self.last.status in FAILURES

    @property
    def is_free(self):
        return self.state == "free"

    @property
    def is_done(self):
        """Whether the job has nothing left to release there."""
        return self.state in ("released", "excused")

    @property
    def why_not(self):
        name = self.machine.hostname
        if self.state == "held":
            return self._held_by
        if self.state == "excused":
            return _("%(machine)s is excused from this job.") % {"machine": name}
        if self.state == "released":
            return _("%(machine)s is already released by this job.") % {"machine": name}
        return self.drift

    @property
    def _held_by(self):
        told = {"machine": self.machine.hostname, "job": self.by.run.stage.job_id}
        if self.is_hidden:
            return _("%(machine)s is held by a job of another business.") % told
        if self.by.status == MachineRun.Status.UNKNOWN:
            return _("%(machine)s is unknown in #%(job)s until somebody says how it ended.") % told
        return _("%(machine)s is held by #%(job)s.") % told

    @property
    def drift(self):
        """What became of it since it was chosen: that it is gone, or where it has moved."""
        if self.move and not self.gone_at:
            return self.move.move_in_words
        return _("%(machine)s is gone from the config service.") % {"machine": self.machine.hostname}

    @property
    def note(self):
        """What a stage page tells beside the machine when it is not free."""
        if self.state == "released":
            return Note("succeeded", _("Released"), self._told, blocks=True)
        note = Note(self.state, str(status_word(self.state)), self._told, blocks=True)
        if self.state == "changed":
            return note._replace(other="moved", other_words=_("release it there"))
        return note._replace(other="when_free", other_words=_("start when free")) if self.can_wait else note

    @property
    def _told(self):
        if self.state == "held":
            told = {"since": clock(self.by.queued_at), "status": self.by.get_status_display().lower()}
            if self.is_hidden:
                return _("by a job of another business, since %(since)s, %(status)s") % told
            told |= {"job": self.by.run.stage.job, "who": self.by.run.started_by}
            words = _("by %(job)s, %(who)s, since %(since)s, %(status)s") % told
            other = self.by.machine.hostname
            if other != self.machine.hostname:
                words = _("%(words)s, as %(name)s") % {"words": words, "name": other}
            return words
        if self.state == "changed":
            return _("was %(was)s, is %(now)s") % {"was": self.move.was_at, "now": self.move.is_at}
        if self.state == "excused":
            return _("by %(who)s: %(why)s") % {"who": self.excuse.excused_by, "why": self.excuse.excuse}
        if self.state == "gone":
            return _("from the config service, since %(since)s") % {"since": clock(self.gone_at)}
        return _("in %(stage)s") % {"stage": self.by.run.stage.get_kind_display().lower()}


class Candidates:
    """The machines of a job: the columns of `lean`, and by its id a Candidate of each not free one.

    Ten thousand free machines are a few columns and nothing else.
    """

    def __init__(self, machines, not_free):
        self.machines, self.not_free = machines, not_free

    def __iter__(self):
        rows = self.machines.rows(*Lean._fields)
        return (self.not_free.get(row[0]) or Candidate(Lean(*row), "free") for row in rows)

    @property
    def versions(self):
        """What is on those that have a version, by machine id."""
        return dict(compress(self.machines.rows("pk", "now_on"), self.machines["now_on"]))

    @property
    def drifted(self):
        """Those that moved, or went, since they were chosen, by site and name."""
        drifted = [candidate for candidate in self.not_free.values() if candidate.gone_at or candidate.move]
        return sorted(drifted, key=_by_site_and_name)

    @property
    def notes(self):
        """{machine id: what is told beside it} of those not free; what is told alike is put into words once."""
        told, words = {}, {}
        for pk, one in self.not_free.items():
            by = one.by
            is_itself = by and by.machine_id == pk
            alike = (one.can_wait, by.run_id, by.status, by.queued_at) if is_itself else pk
            if alike not in words:
                words[alike] = one.note
            told[pk] = words[alike]
        return told


def _by_site_and_name(candidate):
    return candidate.machine.site, candidate.machine.hostname


def candidates(job, reader=None):
    """The machines of the job as Candidates; the number of queries does not depend on the machines.

    Of what holds them, `reader` is told no more than of jobs that they see.
    """
    machines = lean(with_versions(Machine.objects.filter(jobs=job), job.business), "now_on")
    listings = Listing.objects.filter(business=job.business, machine__jobs=job, gone_at__isnull=False)
    if gone := dict(listings.values_list("machine", "gone_at")):
        machines = _as_known(job, machines, listings.left_to_others())
    held, released = _held_and_released(job)
    hidden = hidden_from(reader, held.values(), job)
    rows = job.job_machines.excused_or_moved()
    excused = {row.machine_id: row for row in rows if row.excused_at}
    moved = {row.machine_id: row for row in rows if not row.excused_at}

    def see(machine):
        if machine.pk in excused:
            return Candidate(machine, "excused", excuse=excused[machine.pk])
        by = held.get(machine.pk)
        is_own = by is not None and by.run.stage.job_id == job.pk
        # Whoever else holds it now: this job has done its part there, unless it is about to take that back.
        if machine.pk in released and not (is_own and by.machine_id == machine.pk):
            return Candidate(machine, "released", released[machine.pk])
        if by:
            gone_at, move = (None, None) if is_own else (gone.get(machine.pk), moved.get(machine.pk))
            facts = {"can_wait": not (is_own or gone_at or move), "is_hidden": by.run.stage.job.business_id in hidden}
            return Candidate(machine, "held", by, gone_at, move=move, **facts)
        if machine.pk in gone:
            return Candidate(machine, "gone", gone_at=gone[machine.pk])
        return Candidate(machine, "changed", move=moved[machine.pk])

    known = {*excused, *held, *released, *gone, *moved}
    not_free = {row[0]: see(Lean(*row)) for row in machines.rows(*Lean._fields) if row[0] in known} if known else {}
    _look_for_new_names(job, not_free.values())
    return Candidates(machines, not_free)


def _as_known(job, machines, left):
    """The columns; what another business has listed since is where it was when it was chosen, and has no labels."""
    chosen = {row.machine_id: row for row in job.job_machines.filter(machine__in=left.values("machine"))}
    if not chosen:
        return machines
    rows = map(Lean._make, machines.rows(*Lean._fields))
    return Columns.of_rows([_as_chosen(row, chosen.get(row.pk)) for row in rows], *Lean._fields)


def _as_chosen(machine, row):
    """`machine`, with what `row` of the job keeps of it in place of what is known of it now, if there is one."""
    facts = {name: getattr(row, name) for name in HOST} | {"label_text": "{}"} if row else {}
    return machine._replace(**facts)


def _held_and_released(job):
    """{machine id: machine run} of the job's machines that a run holds or is about to, and of those it has released."""
    held, released = holders_of(job, MachineRun.objects.all()), {}
    if not job.is_before_first_stage:
        own = MachineRun.objects.in_job(job)
        held |= {run.machine_id: run for run in own.pending()}
        released = {run.machine_id: run for run in own.latest_touched().released()}
    # Many machine runs are of few runs: those are fetched once.
    whole = Run.objects.select_related("stage__job__business", "started_by")
    prefetch_related_objects([*held.values(), *released.values()], Prefetch("run", whole))
    return held, released


def holders_of(job, runs):
    """{machine id: the machine run, of `runs`, that holds it, by whatever name} for the machines of the job."""
    machines = Machine.objects.filter(jobs=job)
    on_them = Exists(machines.filter(pk=OuterRef("machine")))
    on_them |= Exists(machines.filter(**{name: OuterRef(name) for name in HOST}))
    # Said twice: so SQLite begins with the machines that are held, and does not read all that has ever run.
    held = MachineRun.objects.holding().values("machine")
    holding = list(runs.holding().filter(on_them, machine__in=held).select_related("machine"))
    if not holding:
        return {}
    by_host = {tuple(getattr(run, name) for name in HOST): run for run in holding}
    by_machine = {pk: by_host[tuple(host)] for pk, *host in machines.values_list("pk", *HOST) if tuple(host) in by_host}
    return by_machine | {run.machine_id: run for run in holding}


def hidden_from(reader, machine_runs, job):
    """The ids of the other businesses that these machine runs are of, and whose jobs `reader` does not see."""
    others = {machine_run.run.stage.job.business_id for machine_run in machine_runs} - {job.business_id}
    if others and reader:
        others -= set(Business.objects.where(reader, Right.VIEW).values_list("pk", flat=True))
    return others


def _look_for_new_names(job, seen):
    """What is gone may be there under another name: a live machine at the same address."""
    gone = {(one.machine.address, one.machine.port): one for one in seen if one.gone_at}
    if gone:
        live = Machine.objects.live_in(job.business).values_list("address", "port", "hostname")
        for address, port, hostname in live:
            if (address, port) in gone:
                gone[address, port].renamed_to = hostname


def left_to_do(job, seen):
    """The machines that keep a job that has begun from being done, and that nothing of it is about to touch.

    Out of its candidates, `seen`: those that went wrong first, then by site and name.
    """
    if job.is_before_first_stage or not job.is_releasable:
        return []
    busy = set(MachineRun.objects.in_job(job).pending().values_list("machine", flat=True))
    back = set(MachineRun.objects.in_job(job).latest_touched().rolled_back().values_list("machine", flat=True))
    cared_for = busy | back
    runs = MachineRun.objects.in_job(job).not_called_off().latest_per_machine()
    last = {run.machine_id: run for run in runs}
    left = [one for one in seen if not one.is_done and one.machine.pk not in cared_for]
    for one in left:
        one.last = last.get(one.machine.pk)
    return sorted(left, key=lambda one: (not one.went_wrong, *_by_site_and_name(one)))


def why_not(job, ids, reader):
    """One sentence for each of the machines `ids` that no stage of `job` offers."""
    refused = candidates(job, reader).not_free
    words = [refused[pk].why_not for pk in ids[:20] if pk in refused]
    if any(pk not in refused for pk in ids):
        words.append(_("Only machines of this job can be chosen."))
    return words
