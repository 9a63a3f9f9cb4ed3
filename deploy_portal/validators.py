import unicodedata

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

# Format characters such as the right-to-left override make a text look like another; joiners inside emoji may stay.
HARMLESS_FORMAT = {"\u200c", "\u200d"}
# Letters and a symbol, by their categories, of which nothing is seen.
BLANK = set("\u115f\u1160\u2800\u3164\uffa0")


def _is_hidden(character):
    category = unicodedata.category(character)
    return category in {"Cc", "Cs", "Co", "Zl", "Zp"} or (category == "Cf" and character not in HARMLESS_FORMAT)


def _is_seen(character):
    return unicodedata.category(character)[0] not in "CMZ" and character not in BLANK


def printable_line(value):
    is_blank = value.strip() and not any(_is_seen(character) for character in value)
    if is_blank or any(_is_hidden(character) for character in value):
        raise ValidationError(_("Remove the control or invisible characters."), code="hidden")
