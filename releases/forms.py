import hashlib

from django import forms
from django.core.exceptions import ValidationError
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from deploy_portal.words import enumerated
from jobs.fields import LinesField, MachinesField, OfferedField, ReasonField, in_short
from jobs.forms import ReasonForm
from jobs.machine_list import OTHERS
from jobs.models import Machine
from jobs.rights import Right
from releases.candidates import why_not
from releases.models import Action, Kind, MachineRun, ReleaseStage, Task
from releases.models.stage import PACE

# From this many machines on, their number is typed before they start.
TYPED_FROM = 20
MACHINES = ["machines", *OTHERS]


class RemarkForm(forms.Form):
    """A step that may be given a reason."""

    reason = ReasonField(required=False)


class SkipForm(ReasonForm):
    seen = forms.CharField(required=False, widget=forms.HiddenInput)


class ReleaseStageForm(forms.ModelForm):
    """What a publisher chooses for a stage: out of the machines of the job that the session names, and no others."""

    machines = MachinesField(queryset=Machine.objects.none(), label=_("machines"), required=False)
    # Machines that other jobs hold; each one is named to wait for the end of what holds it.
    when_free = MachinesField(queryset=Machine.objects.none(), label=_("start when free"), required=False)
    # Machines that are elsewhere now than when they were chosen; each one is named to be released there.
    moved = MachinesField(queryset=Machine.objects.none(), label=_("release it where it is now"), required=False)

    # Only for ops, and only where the job still waits for approval.
    break_glass = forms.BooleanField(
        label=_("Break glass: start without approval"),
        help_text=_("Kept for ever, and told to every approver. The remark says why."),
        error_messages={"required": _("This job is not approved: break the glass, or wait.")},
    )

    class Meta:
        model = ReleaseStage
        fields = ["release_task", "rollback_task", "remark", *PACE]
        field_classes = {"release_task": OfferedField, "rollback_task": OfferedField, "remark": LinesField}
        widgets = {"remark": forms.Textarea(attrs={"rows": 2})}

    def __init__(self, *args, request, **kwargs):
        super().__init__(*args, **kwargs)
        stage = self.instance
        job_id = request.session["job_id"]
        self.fields["machines"].queryset = stage.offered_machines(job_id=job_id)
        for name in OTHERS:
            if name in self.data:  # else it stays as it is and offers none
                self.fields[name].queryset = stage.offered_machines(**{name: True}, job_id=job_id)
        for name in MACHINES:
            self.fields[name].why_not = lambda ids: why_not(stage.job, ids, request.user)
        self.fields["batch_pause"].required = False
        if stage.kind == Kind.RELEASE and not stage.version:
            self.initial["canary"] = True
        for name, action in (("release_task", Action.RELEASE), ("rollback_task", Action.ROLLBACK)):
            self.fields[name].queryset = Task.objects.offered_to(stage.job.business, action)
            self.fields[name].required = True
            self.fields[name].empty_label = None
        if not stage.needs_break_glass or Right.BREAK_GLASS not in stage.job.rights:
            del self.fields["break_glass"]
        # Why this run; what was said of the one before it is not said again.
        self.initial["remark"] = ""
        self.steps_in = steps_in(request.user, stage.job)
        self.fields["remark"].required = self.breaks_glass or self.steps_in

    def clean_batch_pause(self):
        return self.cleaned_data["batch_pause"] or 0

    def clean(self):
        super().clean()
        if not self.chosen and not any(self.has_error(name) for name in MACHINES):
            self.add_error("machines", ValidationError(MachinesField.default_error_messages["required"], "required"))

    @property
    def breaks_glass(self):
        """Whether this user may start this stage, but only without approval."""
        return "break_glass" in self.fields

    @property
    def named(self):
        """The ids of the machines that were sent, whether they can be had or not."""
        return set().union(*(self[name].value() for name in MACHINES))

    @cached_property
    def chosen(self):
        """The machines that are to be released, at once or when they are free, where they were or where they are."""
        return list({machine.pk: machine for name in MACHINES for machine in self.cleaned_data.get(name, [])}.values())

    @property
    def carried(self):
        """What was chosen, as the fields that a page sends on."""
        chosen = {name: in_short(machine.pk for machine in self.cleaned_data[name]) for name in MACHINES}
        return {name: value for name, value in chosen.items() if value}


class StartForm(forms.Form):
    """The last step before machines are touched: many of them are counted out loud."""

    typed_count = forms.IntegerField(label=_("Number of machines"), required=False, min_value=0)
    # Which texts of the tasks were read; a form that never showed any sends none.
    texts = forms.CharField(required=False, widget=forms.HiddenInput)
    # The same of where the machines that moved were shown to be.
    places = forms.CharField(required=False, widget=forms.HiddenInput)
    old_list = forms.BooleanField(
        label=_("Start with the last list all the same"),
        help_text=_("The remark must say why this cannot wait."),
        required=False,
    )

    def __init__(self, *args, machines, stage, moved, **kwargs):
        super().__init__(*args, **kwargs)
        self.count, self.stage = len(machines), stage
        self.moved = stage.job.job_machines.moved_of(moved)
        self.places_now = _in_one_word(f"{one.machine_id} {one.is_at}" for one in self.moved)
        self.texts_now = "-".join(str(task.latest_id) for task in (stage.release_task, stage.rollback_task))
        self.fields["typed_count"].required = self.count >= TYPED_FROM

    def clean_texts(self):
        texts = self.cleaned_data["texts"]
        if texts and texts != self.texts_now:
            raise forms.ValidationError(_("A task was rewritten since you checked it. Read it again."))
        return texts

    def clean_places(self):
        places = self.cleaned_data["places"]
        if places and places != self.places_now:
            raise forms.ValidationError(_("A machine moved again since you checked it. Look where it is now."))
        return places

    def clean_old_list(self):
        """The config service is asked just before a start; without its answer, a person must answer for the list."""
        agrees = self.cleaned_data["old_list"]
        if self.stage.job.business.sync_error and not agrees:
            words = _("The config service was asked just now and gave no list that can be taken.")
            raise forms.ValidationError(words, code="no_list")
        if agrees and self.stage.job.business.sync_error and not self.stage.remark:
            raise forms.ValidationError(_("Say in the remark why this cannot wait."))
        return agrees

    @property
    def facts(self):
        """What the event keeps of an override."""
        business = self.stage.job.business
        if not business.sync_error:
            return {}
        why_old = business.sync_error_texts or business.sync_error
        return {"old_list": business.synced_at and business.synced_at.isoformat(), "why_old": why_old}

    def clean_typed_count(self):
        typed = self.cleaned_data["typed_count"]
        if self.fields["typed_count"].required and typed != self.count:
            raise forms.ValidationError(_("%(count)s machines are chosen; type that number.") % {"count": self.count})
        return typed


def steps_in(user, job):
    """Whether only being ops lets `user` publish; they may, but never without saying why."""
    return Right.PUBLISH not in (job.business.rights_by_role(user) if user.is_ops else job.rights)


def _in_one_word(lines):
    """The same word for the same lines, however many and in whatever order; none for none."""
    text = "\n".join(sorted(lines))
    return text and hashlib.sha256(text.encode()).hexdigest()


class ChosenForm(ReasonForm):
    """Some machines out of a list that the page showed, and why."""

    machines = MachinesField(queryset=Machine.objects.none(), label=_("machines"))

    def __init__(self, *args, job, listed, why_not, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["machines"].queryset = Machine.objects.filter(jobs=job)
        self.fields["machines"].only = {machine.pk for machine in listed}
        self.fields["machines"].why_not = why_not
        self.fields["reason"].widget.attrs["rows"] = 2


class ExcuseForm(ChosenForm):
    """Which of a job's machines it is done without, and why."""

    def __init__(self, *args, job, left, **kwargs):
        listed = [candidate.machine for candidate in left]
        self.job = job
        super().__init__(
            *args,
            job=job,
            listed=listed,
            why_not=lambda ids: [_("Some of these cannot be excused now. Look again which can.")],
            **kwargs,
        )

    def asks_for_what_is(self, user):
        """Whether `user` has excused all of these already, for the same reason: the button was pressed twice."""
        excused = self.job.job_machines.filter(excused_by=user, excuse=self.cleaned_data.get("reason"))
        chosen = self["machines"].value()
        return bool(chosen) and chosen <= set(excused.values_list("machine", flat=True))


class RollbackForm(ChosenForm):
    """Which of the machines that were changed go back, and why."""

    looked = forms.BooleanField(label=_("I have looked: nothing of this job still runs there"), required=False)
    undo_later = forms.BooleanField(label=_("Undo what later jobs put there, too"), required=False)

    def __init__(self, *args, rollback, **kwargs):
        listed = [machine_run.machine for machine_run in rollback.changed]
        super().__init__(*args, job=rollback.job, listed=listed, why_not=rollback.why_not, **kwargs)
        self.unknown = {run.machine_id for run in rollback.changed if run.status == MachineRun.Status.UNKNOWN}
        self.overtaken = {run.machine_id for run in rollback.changed if run.overtaken_by}
        self.initial["machines"] = self.fields["machines"].only - self.unknown - self.overtaken

    def clean(self):
        super().clean()
        self._require("looked", self.unknown, _("Look first: a command may still be running on %(names)s."))
        self._require(
            "undo_later", self.overtaken, _("A later job ran on %(names)s: roll that one back, or tick this.")
        )

    def _require(self, box, these, words):
        """The box must be ticked when one of `these` machines is chosen."""
        chosen = [machine for machine in self.cleaned_data.get("machines", []) if machine.pk in these]
        if chosen and not self.cleaned_data[box]:
            self.add_error(box, words % {"names": enumerated(machine.hostname for machine in chosen[:20])})


class ResolveForm(forms.Form):
    """How an unknown machine really ended, as someone found by looking."""

    status = forms.ChoiceField(
        label=_("It ended"), choices=[("succeeded", _("Succeeded")), ("failed", _("Failed"))], widget=forms.RadioSelect
    )
    reason = ReasonField(widget=forms.Textarea(attrs={"rows": 2}))
