from django import forms
from django.utils.translation import gettext_lazy as _

from jobs.fields import MachinesField
from jobs.models import Machine
from jobs.rights import Right
from jobs.validators import printable_text
from releases.candidates import why_not
from releases.models import Action, ReleaseStage, Task

# From this many machines on, their number is typed before they start.
TYPED_FROM = 20


class ReleaseStageForm(forms.ModelForm):
    """What a publisher chooses for a stage: out of the machines of the job that the session names, and no others."""

    machines = MachinesField(queryset=Machine.objects.none(), label=_("machines"))

    class Meta:
        model = ReleaseStage
        fields = ["release_task", "rollback_task", "machines", "remark", "batch_size"]
        widgets = {"remark": forms.Textarea(attrs={"rows": 2})}

    def __init__(self, *args, request, **kwargs):
        super().__init__(*args, **kwargs)
        stage = self.instance
        self.fields["machines"].queryset = stage.offered_machines().filter(jobs=request.session["job_id"])
        self.fields["machines"].why_not = lambda ids: why_not(stage, ids)
        for name, action in (("release_task", Action.RELEASE), ("rollback_task", Action.ROLLBACK)):
            self.fields[name].queryset = Task.objects.offered_to(stage.job.business, action)
            self.fields[name].required = True
            self.fields[name].empty_label = None
        # Ops may step in, but never without saying why.
        self.fields["remark"].required = Right.PUBLISH not in stage.job.business.rights_by_role(request.user)


class StartForm(forms.Form):
    """The last step before machines are touched: many of them are counted out loud."""

    typed_count = forms.IntegerField(label=_("Number of machines"), required=False, min_value=0)
    # Which texts of the tasks were read; a form that never showed any sends none.
    texts = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args, machines, tasks, **kwargs):
        super().__init__(*args, **kwargs)
        self.count = len(machines)
        self.texts_now = "-".join(str(task.latest_id) for task in tasks)
        self.fields["typed_count"].required = self.count >= TYPED_FROM

    def clean_texts(self):
        texts = self.cleaned_data["texts"]
        if texts and texts != self.texts_now:
            raise forms.ValidationError(_("A task was rewritten since you checked it. Read it again."))
        return texts

    def clean_typed_count(self):
        typed = self.cleaned_data["typed_count"]
        if self.fields["typed_count"].required and typed != self.count:
            raise forms.ValidationError(_("%(count)s machines are chosen; type that number.") % {"count": self.count})
        return typed


class RollbackForm(forms.Form):
    """Which of the machines that were changed go back, and why."""

    machines = MachinesField(queryset=Machine.objects.none(), label=_("machines"))
    reason = forms.CharField(
        label=_("Why"), max_length=2000, validators=[printable_text], widget=forms.Textarea(attrs={"rows": 2})
    )

    def __init__(self, *args, rollback, **kwargs):
        super().__init__(*args, **kwargs)
        changed = [machine_run.machine_id for machine_run in rollback.changed]
        self.fields["machines"].queryset = Machine.objects.filter(pk__in=changed)
        self.fields["machines"].why_not = rollback.why_not


class ResolveForm(forms.Form):
    """How an unknown machine really ended, as someone found by looking."""

    status = forms.ChoiceField(
        label=_("It ended"), choices=[("succeeded", _("Succeeded")), ("failed", _("Failed"))], widget=forms.RadioSelect
    )
    reason = forms.CharField(
        label=_("Why"), max_length=2000, validators=[printable_text], widget=forms.Textarea(attrs={"rows": 2})
    )
