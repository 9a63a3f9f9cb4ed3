import unicodedata

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

# Format characters such as the right-to-left override make a text look like another; joiners inside emoji may stay.
HARMLESS_FORMAT = {"\u200c", "\u200d"}


def _is_hidden(character):
    category = unicodedata.category(character)
    return category in {"Cc", "Cs", "Co", "Zl", "Zp"} or (category == "Cf" and character not in HARMLESS_FORMAT)


def printable_line(value):
    if any(_is_hidden(character) for character in value):
        raise ValidationError(_("Remove the control or invisible characters."), code="hidden")
