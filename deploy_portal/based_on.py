"""Forms that undo nothing: each knows the values that the person who fills it in began from."""

import hashlib

from django import forms
from django.utils.translation import gettext_lazy as _


class BasedOnField(forms.CharField):
    """Comes back as it went out, so it is never what a person changed."""

    widget = forms.HiddenInput

    def has_changed(self, initial, data):
        return False


class BasedOnForm(forms.ModelForm):
    """Refuses a change to a row that is no longer as the form showed it; `based_on` is the digest of what was shown."""

    based_on = BasedOnField(required=False)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["based_on"] = self._digest()

    def _digest(self):
        fields = {name: field for name, field in self.fields.items() if name != "based_on" and not field.disabled}
        shown = {name: field.prepare_value(self.initial.get(name)) for name, field in fields.items()}
        return hashlib.sha256(repr(shown).encode()).hexdigest()

    def clean(self):
        super().clean()
        # Who sends the same form twice changes nothing the second time.
        if self.instance.pk and self.has_changed() and self.cleaned_data.get("based_on") != self.initial["based_on"]:
            late = _("Somebody changed this meanwhile. Copy what you typed, open the page again and take both up.")
            self.add_error(None, late)
