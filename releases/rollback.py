"""What a job changed and can be rolled back: of one of its stages, or of all."""

from django.utils.translation import gettext as _

from deploy_portal.words import enumerated
from jobs.columns import Columns
from jobs.machine_list import COLUMNS, Note, lean
from jobs.models import Machine
from releases.candidates import Candidate, hidden_from, holders_of
from releases.models import MachineRun, ReleaseStage

LATER_NAMED = 5


class Rollback:
    """What can be rolled back of one stage (`what` is its kind) or of all ("job"), and what cannot just now.

    Of what holds a machine, `reader` is told no more than of jobs that they see.
    """

    def __init__(self, job, what, reader):
        self.job, self.what, self.reader = job, what, reader
        self.stages = [stage for stage in ReleaseStage.objects.of(job) if what in (stage.kind, "job")]
        self.changed, self.out_of_reach = [], {}
        for stage in self.stages:
            candidates = stage.rollback_candidates()
            if stage.is_running:
                words = _("A run of %(stage)s is still going on. Wait for its end, or cancel it.")
                words %= {"stage": stage.get_kind_display().lower()}
                self.out_of_reach |= {machine_run.machine_id: words for machine_run in candidates}
            else:
                self.changed += candidates
        self.out_of_reach |= self._held_or_gone()

    @property
    def machines(self):
        """The columns of those that can be rolled back, for a list."""
        ids = {machine_run.machine_id for machine_run in self.changed}
        rows = lean(Machine.objects.filter(jobs=self.job)).rows(*COLUMNS)
        return Columns.of_rows([row for row in rows if row[0] in ids], *COLUMNS)

    @property
    def notes(self):
        """{machine id: how the job left it, and to what it goes back}; what is told alike is put into words once."""
        told, words = {}, {}
        for one in self.changed:
            alike = (one.status, one.rollback_versions, *(later.run_id for later in one.overtaken_by))
            if alike not in words:
                words[alike] = _note_of_change(one)
            told[one.machine_id] = words[alike]
        return told

    @property
    def version(self):
        return sum(stage.version for stage in self.stages)

    def why_not(self, ids):
        """Sentences on the machines `ids` that cannot be rolled back."""
        words = list(dict.fromkeys(self.out_of_reach[pk] for pk in ids[:20] if pk in self.out_of_reach))
        if any(pk not in self.out_of_reach for pk in ids):
            words.append(_("Some of these carry no change of this job here."))
        return words

    def _held_or_gone(self):
        """One sentence for each machine that carries a change, but is held or gone; by machine id."""
        runs = MachineRun.objects.select_related("run__stage__job")
        waiting = runs.in_job(self.job).filter(status=MachineRun.Status.HELD)
        holders = {run.machine_id: run for run in waiting} | holders_of(self.job, runs)
        hidden = hidden_from(self.reader, holders.values(), self.job)
        return {
            run.machine_id: _why_not(run.machine, holders.get(run.machine_id), hidden)
            for stage in self.stages
            for run in stage.changed_out_of_reach()
        }


def _why_not(machine, by, hidden):
    if by is None:
        return Candidate(machine, "gone").why_not
    return Candidate(machine, "held", by, is_hidden=by.run.stage.job.business_id in hidden).why_not


def _note_of_change(machine_run):
    _now, version = machine_run.rollback_versions
    told = [_("back to %(version)s") % {"version": version} if version else _("back to a version that is not known")]
    if machine_run.status == MachineRun.Status.UNKNOWN:
        told.append(_("only if nothing still runs there"))
    if machine_run.overtaken_by:
        told.append(_ran_since([later.run.stage.job for later in machine_run.overtaken_by]))
    return Note(machine_run.status, machine_run.get_status_display(), " · ".join(told))


def _ran_since(jobs):
    """Which jobs that were: the last of them by name, or the page of an old job would name hundreds of each machine."""
    more, last = jobs[:-LATER_NAMED], enumerated(jobs[-LATER_NAMED:])
    if more:
        return _("%(job)s and %(n)s earlier ones ran there since") % {"job": last, "n": len(more)}
    return _("%(job)s ran there since") % {"job": last}
