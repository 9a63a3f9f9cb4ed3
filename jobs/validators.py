import re
import unicodedata

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}", re.ASCII)
# Format characters such as the right-to-left override make a text look like another; joiners inside emoji may stay.
HARMLESS_FORMAT = {"\u200c", "\u200d"}


def _is_hidden(character):
    category = unicodedata.category(character)
    return category in {"Cc", "Cs", "Co", "Zl", "Zp"} or (category == "Cf" and character not in HARMLESS_FORMAT)


def printable_line(value):
    if any(_is_hidden(character) for character in value):
        raise ValidationError(_("Remove the control or invisible characters."), code="hidden")


def printable_text(value):
    """Like printable_line, for text of several lines."""
    printable_line(re.sub(r"[\r\n\t]", "", value))


def release_version(value):
    if not VERSION.fullmatch(value):
        raise ValidationError(
            _("A version is up to 64 letters, digits and . _ + ~ - and begins with a letter or digit, such as 2.14.3."),
            code="version",
        )
