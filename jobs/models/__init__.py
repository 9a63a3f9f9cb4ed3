from jobs.models.approval import Approval
from jobs.models.business import Business, Membership
from jobs.models.event import Event
from jobs.models.freeze import Freeze, FreezeMoved, Leave
from jobs.models.job import FormUsed, Job, JobMoved
from jobs.models.job_machine import JobMachine
from jobs.models.machine import Listing, Machine
from jobs.models.notice import Notice
from jobs.models.sync import Sync

__all__ = [
    "Approval",
    "Business",
    "Event",
    "FormUsed",
    "Freeze",
    "FreezeMoved",
    "Job",
    "JobMachine",
    "JobMoved",
    "Leave",
    "Listing",
    "Machine",
    "Membership",
    "Notice",
    "Sync",
]
