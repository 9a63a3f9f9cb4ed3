from jobs.models.business import Business, Membership
from jobs.models.event import Event
from jobs.models.job import Job, JobMachine, JobMoved, named
from jobs.models.machine import Listing, Machine

__all__ = ["Business", "Event", "Job", "JobMachine", "JobMoved", "Listing", "Machine", "Membership", "named"]
