from jobs.admin.business import BusinessAdmin
from jobs.admin.event import EventAdmin
from jobs.admin.freeze import FreezeAdmin
from jobs.admin.job import JobAdmin, NumberedAdmin
from jobs.admin.machine import MachineAdmin
from jobs.admin.membership import MembershipAdmin
from jobs.admin.sync import SyncAdmin

__all__ = [
    "BusinessAdmin",
    "EventAdmin",
    "FreezeAdmin",
    "JobAdmin",
    "MachineAdmin",
    "MembershipAdmin",
    "NumberedAdmin",
    "SyncAdmin",
]
