"""A number of machines as people write it: `10`, or `10 %` of those chosen."""

import math
import re

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

SHARE = re.compile(r"([1-9][0-9]{0,5})(?: ?(%))?", re.ASCII)
# What Chinese input methods write in full width; the comma of their lists among it.
HALF_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " ", 0x3001: ","}


def in_half_width(text):
    return text.translate(HALF_WIDTH)


def share(value):
    """Refuses what is neither a number of machines nor a percentage of them."""
    written = _read(value)
    if not written or (written[2] and int(written[1]) > 100):
        raise ValidationError(_("Write a number such as 10, or a share such as 10 %."), code="share")


def share_of(total, value):
    """How many of `total` machines `value` is: at least one; None when nothing is written."""
    if not value:
        return None
    number, percent = _read(value).groups()
    return max(1, math.ceil(total * int(number) / 100)) if percent else int(number)


def _read(value):
    return SHARE.fullmatch(in_half_width(str(value)))
