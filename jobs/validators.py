import re

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from deploy_portal.validators import printable_line

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}", re.ASCII)


def printable_text(value):
    """Like printable_line, for text of several lines."""
    printable_line(re.sub(r"[\r\n\t]", "", value))


def release_version(value):
    if not VERSION.fullmatch(value):
        raise ValidationError(
            _("A version is up to 64 letters, digits and . _ + ~ - and begins with a letter or digit, such as 2.14.3."),
            code="version",
        )
