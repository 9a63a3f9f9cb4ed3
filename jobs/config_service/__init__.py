"""The config service: which machines a business has. `read` is what the models use."""

from django.conf import settings

from jobs.config_service.base import Source, SourceError, check, load
from jobs.config_service.rows import Refused, clean_rows

__all__ = ["Refused", "Source", "SourceError", "check", "load", "read"]


def read(business):
    """The machines that the config service gives for `business`, as (MachineRow list, Refused list), or SourceError."""
    return clean_rows(load(business).rows(), allow_loopback=settings.ALLOW_LOOPBACK_MACHINES)
