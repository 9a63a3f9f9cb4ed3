"""The forms of freezes: what ops keep in the admin, leave for one job, and the stop of everything."""

from datetime import timedelta

from django import forms
from django.utils.dates import WEEKDAYS
from django.utils.translation import gettext_lazy as _

from deploy_portal.based_on import BasedOnForm
from deploy_portal.clock import database_now
from jobs.forms import ReasonForm
from jobs.models import Freeze
from jobs.validators import printable_line

# No calendar goes on for ever, and no time zone fits the first or the last day of them all.
FAR = timedelta(days=5 * 365)
TIMES = {Freeze.Kind.ONCE: ["starts_at", "ends_at"], Freeze.Kind.WEEKLY: ["weekdays", "from_time", "hours"]}


class WeekdaysField(forms.TypedMultipleChoiceField):
    """Days of the week, as the model keeps them: a bit for each."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self, **kwargs):
        super().__init__(coerce=int, choices=[(1 << day, name) for day, name in WEEKDAYS.items()], **kwargs)

    def prepare_value(self, value):
        return [bit for bit, _name in self.choices if value & bit] if isinstance(value, int) else value

    def clean(self, value):
        return sum(set(super().clean(value))) or None

    def has_changed(self, initial, data):
        return super().has_changed(self.prepare_value(initial), data)


class FreezeForm(BasedOnForm):
    """A freeze, as ops make it and may change it until it begins."""

    weekdays = WeekdaysField(label=_("Begins on"), required=False)

    class Meta:
        model = Freeze
        fields = ["business", "reason", "kind", *TIMES[Freeze.Kind.ONCE], *TIMES[Freeze.Kind.WEEKLY]]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Staff who may only look get a form without fields.
        if "kind" in self.fields:
            self.fields["kind"].choices = [(kind.value, kind.label) for kind in TIMES]
        if "business" in self.fields:
            self.fields["business"].empty_label = _("All")

    def clean(self):
        super().clean()
        kind = self.cleaned_data.get("kind")
        if kind in TIMES:
            self._clean_times(kind)

    def _clean_times(self, kind):
        for name in (name for names in TIMES.values() for name in names):
            value = self.cleaned_data.get(name)
            if name in TIMES[kind] and value is None and not self.has_error(name):
                self.add_error(name, _("This is needed."))
            if name not in TIMES[kind] and value is not None:
                self.add_error(name, _("Leave this empty, or choose otherwise how often it comes."))
        if not any(self.has_error(name) for name in TIMES[kind]):
            self._clean_sense(kind, *(self.cleaned_data[name] for name in TIMES[kind]))

    def _clean_sense(self, kind, begins, *length):
        if kind == Freeze.Kind.WEEKLY:
            if Freeze(weekdays=begins, hours=length[-1]).never_pauses:
                self.add_error("hours", _("Each time would reach into the next: nothing could ever be released."))
        elif length[-1] <= begins:
            self.add_error("ends_at", _("It must end after it begins."))
        elif length[-1] <= database_now():
            self.add_error("ends_at", _("This has passed already."))
        elif max(abs(moment - database_now()) for moment in (begins, *length)) > FAR:
            self.add_error("ends_at", _("Choose times within five years of now."))


class EndFreezeForm(forms.ModelForm):
    """What is left to do with a freeze that has begun."""

    end_now = forms.CharField(
        label=_("End it now, because"),
        max_length=200,
        validators=[printable_line],
        help_text=_("For good, at once: what waits for its end begins. It stays in this list, with your name."),
    )

    class Meta:
        model = Freeze
        fields = []


class LeaveForm(ReasonForm):
    """Leave for `job` to pass one time of a freeze that is in force or near; never a stop of everything.

    `giver`: none that this person has given already. `ahead`: the times that can be meant, where they are known.
    """

    occurrence = forms.ChoiceField(label=_("Which freeze"))
    # Of the job that was read; the page sends it, a command does not.
    revision = forms.IntegerField(required=False, widget=forms.HiddenInput)
    field_order = ["occurrence", "reason"]

    def __init__(self, *args, job, giver=None, ahead=None, **kwargs):
        super().__init__(*args, **kwargs)
        ahead = Freeze.objects.windows().of(job.business).ahead() if ahead is None else ahead
        given = set(job.leaves.live().filter(by=giver).values_list("freeze", "until")) if giver and ahead else ()
        self.occurrences = {one.key: one for one in ahead if (one.freeze.pk, one.ends) not in given}
        self.fields["occurrence"].choices = [(key, one.in_words) for key, one in self.occurrences.items()]
        self.fields["reason"].widget.attrs["rows"] = 2
        self.fields["revision"].initial = job.revision

    def clean_occurrence(self):
        return self.occurrences[self.cleaned_data["occurrence"]]


class ResumeForm(forms.Form):
    """Why the stop of everything ends; the same line says why it began."""

    reason = forms.CharField(label=_("Why"), max_length=200, validators=[printable_line])


class StopForm(ResumeForm):
    confirmed = forms.BooleanField(label=_("Yes: no release of any business begins on another machine from now on"))
