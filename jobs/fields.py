import re

from django.core.exceptions import ValidationError
from django.forms import ModelMultipleChoiceField, SelectMultiple
from django.utils.translation import gettext_lazy as _

PK = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class MachinesField(ModelMultipleChoiceField):
    """Machines out of a narrowed queryset: one query however many are named, and never an empty choice that means all.

    `why_not` explains ids that are not in the queryset: it takes them and returns one sentence each.
    """

    widget = SelectMultiple
    default_error_messages = {
        "required": _("Choose at least one machine."),
        "malformed": _("This is not a machine's id: %(value)s"),
        "twice": _("Some machines were named twice."),
    }

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.why_not = lambda ids: [_("Some of these machines cannot be chosen here.")]

    def clean(self, value):
        if not value:
            if not self.required:
                return []
            raise ValidationError(self.error_messages["required"], code="required")
        ids = [self._pk(item) for item in value]
        if len(set(ids)) < len(ids):
            raise ValidationError(self.error_messages["twice"], code="twice")
        offered = {machine.pk: machine for machine in self.queryset}
        if missing := [pk for pk in ids if pk not in offered]:
            raise ValidationError([ValidationError(words, code="not_offered") for words in self.why_not(missing)])
        return [offered[pk] for pk in ids]

    def _pk(self, item):
        if not PK.fullmatch(str(item)):
            raise ValidationError(self.error_messages["malformed"], code="malformed", params={"value": str(item)[:40]})
        return int(item)
