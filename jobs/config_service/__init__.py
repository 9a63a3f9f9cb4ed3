"""The config service: which machines a business has. `read` is what the models use."""

from django.conf import settings
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from jobs.config_service.base import SourceError, check, load
from jobs.config_service.rows import clean_rows

__all__ = ["SourceError", "check", "read"]


def read(business, progress=None):
    """The machines that the config service gives for `business`, as (MachineRow list, Refused list), or SourceError.

    `progress`, if given, is called with the number of rows that have come, after each one.
    """
    rows = _counted(load(business).rows(), progress)
    return clean_rows(rows, allow_loopback=settings.ALLOW_LOOPBACK_MACHINES)


def _counted(rows, progress):
    most = settings.CONFIG_SERVICE_MAX_MACHINES
    for number, row in enumerate(rows, 1):
        if number > most:
            words = _("The list has more than {most} rows. Split the business, or raise CONFIG_SERVICE_MAX_MACHINES.")
            raise SourceError(format_lazy(words, most=most), permanent=True)
        if progress:
            progress(number)
        yield row
