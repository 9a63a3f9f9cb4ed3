from jobs.models.business import Business, Membership
from jobs.models.event import Event
from jobs.models.job import Job, JobMoved
from jobs.models.machine import Listing, Machine

__all__ = ["Business", "Event", "Job", "JobMoved", "Listing", "Machine", "Membership"]
