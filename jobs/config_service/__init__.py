"""The config service: which machines a business has. `read` is what the models use."""

from django.conf import settings

from jobs.config_service.base import Source, SourceError, check, load
from jobs.config_service.rows import Refused, clean_rows

__all__ = ["Refused", "Source", "SourceError", "check", "load", "read"]


def read(business, progress=None):
    """The machines that the config service gives for `business`, as (MachineRow list, Refused list), or SourceError.

    `progress`, if given, is called with the number of rows that have come, after each one.
    """
    rows = load(business).rows()
    return clean_rows(_told(rows, progress) if progress else rows, allow_loopback=settings.ALLOW_LOOPBACK_MACHINES)


def _told(rows, progress):
    for number, row in enumerate(rows, 1):
        progress(number)
        yield row
