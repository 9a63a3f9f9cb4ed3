from django import forms
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from jobs.fields import LinesField, MachinesField, OfferedField, Placed, ReasonField
from jobs.models import Business, Event, Job, Machine
from jobs.rights import Right

NOT_COMPLETE = _("The form was not complete; please try again.")


class JobForm(forms.ModelForm):
    """A job of the businesses that `user` may create one for; its machines are those of `business`, as listed now."""

    machines = MachinesField(queryset=Machine.objects.none(), kind=Placed, label=_("machines"))
    # What an edit began from; the page always sends the one that it showed.
    revision = forms.IntegerField(required=False, widget=forms.HiddenInput)
    # Which form this is: one makes one job. The page sends it, a command does not.
    key = forms.UUIDField(required=False, widget=forms.HiddenInput, error_messages={"invalid": NOT_COMPLETE})

    class Meta:
        model = Job
        fields = ["title", "business", "version", "plan_pre_release", "plan_gray_release", "remark"]
        field_classes = {
            "business": OfferedField,
            **dict.fromkeys(["plan_pre_release", "plan_gray_release", "remark"], LinesField),
        }
        widgets = {
            "plan_pre_release": forms.Textarea(attrs={"rows": 1}),
            "plan_gray_release": forms.Textarea(attrs={"rows": 1}),
            "remark": forms.Textarea(attrs={"rows": 3}),
        }

    def __init__(self, *args, user, business, **kwargs):
        super().__init__(*args, **kwargs)
        self.user = user
        self.fields["business"].queryset = Business.objects.where(user, Right.CREATE)
        self.fields["business"].empty_label = None
        # A browser that goes back would choose another one again than the list is of.
        self.fields["business"].widget.attrs["autocomplete"] = "off"
        if self.instance.pk:
            self.fields["business"].disabled = True
            self.initial["machines"] = set(self.instance.job_machines.values_list("machine", flat=True))
        if business:
            self.fields["business"].initial = business
            self.fields["machines"].queryset = Machine.objects.live_in(business)
        self.fields["machines"].why_not = self._why_not

    def clean_revision(self):
        revision = self.cleaned_data["revision"]
        if self.instance.pk and revision != self.instance.revision and not self.is_saved_already:
            raise forms.ValidationError(
                _("This job was changed meanwhile; its page tells by whom. Save again to put what stands here over it.")
            )
        return revision

    @cached_property
    def is_saved_already(self):
        """Whether an edit of an earlier revision asks for just what stands: its button was pressed twice."""
        job = self.instance
        is_old = (self.cleaned_data["revision"] or job.revision) < job.revision
        return is_old and self.changed_data == ["revision"] and job.has_just(Event.Verb.EDITED, self.user)

    def clean(self):
        super().clean()
        machines = self.cleaned_data.get("machines")
        names = ("plan_pre_release", "plan_gray_release")
        if machines and all(name in self.cleaned_data for name in names):
            # ValidationError names the field that cannot be planned so.
            Job(**{name: self.cleaned_data[name] for name in names}).plan(machines)

    def _why_not(self, ids):
        names = Machine.objects.filter(pk__in=ids[:20], businesses__in=self.fields["business"].queryset).distinct()
        return [
            _("%(machine)s is no longer a live machine of this business.") % {"machine": machine} for machine in names
        ] or [_("Some of these are not machines of this business.")]


class ReasonForm(forms.Form):
    """A step that must be given a reason; `missing` is said instead of the usual words when it has none."""

    reason = ReasonField(widget=forms.Textarea(attrs={"rows": 3}))

    def __init__(self, *args, missing="", **kwargs):
        super().__init__(*args, **kwargs)
        if missing:
            self.fields["reason"].error_messages["required"] = missing


class RevisionForm(forms.Form):
    """The revision is what the approver read; a job that was edited meanwhile is not meant by it."""

    revision = forms.IntegerField(
        min_value=1,
        widget=forms.HiddenInput,
        error_messages={
            "required": NOT_COMPLETE,
            "invalid": NOT_COMPLETE,
            "min_value": _("There is no such revision."),
        },
    )


class SendBackForm(RevisionForm, ReasonForm):
    pass


class ApprovalForm(RevisionForm):
    reason = ReasonField(label=_("Remark"), required=False)
