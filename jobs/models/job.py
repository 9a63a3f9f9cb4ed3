from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from deploy_portal import origin
from jobs.models.business import Business
from jobs.models.event import Event
from jobs.models.job_machine import JobMachine
from jobs.plan import plan
from jobs.rights import Right
from jobs.validators import printable_line, printable_text, release_version

PLAN_HELP = _("A number such as 1, a share such as 10 %, or host names; spread over the sites. Empty: no plan.")


class JobMoved(Exception):
    """The job is no longer in the state that this step begins from; nothing was changed."""


class JobQuerySet(models.QuerySet):
    def seen_by(self, user):
        return self.filter(business__in=Business.objects.where(user, Right.VIEW))

    def waiting(self):
        return self.filter(status=Job.Status.WAITING)

    def under_way(self):
        return self.filter(status__in=[Job.Status.APPROVED, Job.Status.IN_PROGRESS])


class Job(models.Model):
    """Release `version` of a business on these machines, because of `remark`."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting for approval")
        APPROVED = "approved", _("Approved")
        IN_PROGRESS = "in_progress", _("In progress")
        RELEASED = "released", _("Released")
        ROLLED_BACK = "rolled_back", _("Rolled back")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    BEFORE_FIRST_STAGE = [Status.WAITING, Status.APPROVED]
    RELEASABLE = [Status.APPROVED, Status.IN_PROGRESS, Status.RELEASED, Status.ROLLED_BACK]

    business = models.ForeignKey(Business, models.PROTECT, related_name="jobs", verbose_name=_("business"))
    title = models.CharField(_("title"), max_length=200, validators=[printable_line])
    version = models.CharField(_("version"), max_length=64, validators=[release_version])
    machines = models.ManyToManyField(
        "jobs.Machine", through="JobMachine", related_name="jobs", verbose_name=_("machines")
    )
    plan_pre_release = models.TextField(
        _("planned for pre-release"), blank=True, max_length=20_000, validators=[printable_text], help_text=PLAN_HELP
    )
    plan_gray_release = models.TextField(
        _("planned for gray release"), blank=True, max_length=20_000, validators=[printable_text], help_text=PLAN_HELP
    )
    remark = models.TextField(_("remark"), blank=True, max_length=2000, validators=[printable_text])
    revision = models.PositiveIntegerField(_("revision"), default=1, editable=False)
    requester = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="jobs", verbose_name=_("requester"), editable=False
    )
    status = models.CharField(_("status"), max_length=20, choices=Status, default=Status.WAITING, editable=False)
    created_at = models.DateTimeField(_("asked for"), db_default=Now(), editable=False)
    approved_at = models.DateTimeField(_("approved"), null=True, editable=False)
    approver = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        related_name="approved_jobs",
        verbose_name=_("approver"),
        editable=False,
    )

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ["-pk"]
        indexes = [models.Index(fields=["business", "status"], name="job_by_business")]
        constraints = [
            models.CheckConstraint(condition=~Q(approver=models.F("requester")), name="job_not_approved_by_requester"),
            models.CheckConstraint(
                condition=Q(status__in=["waiting", "withdrawn"]) | Q(approver__isnull=False), name="job_approved_first"
            ),
        ]

    def __str__(self):
        return f"#{self.pk} {self.business.slug} {self.version}"

    @property
    def is_releasable(self):
        return self.status in self.RELEASABLE

    @property
    def is_before_first_stage(self):
        return self.status in self.BEFORE_FIRST_STAGE

    def rights_of(self, user):
        """What `user` may do with this job; nobody approves their own, and only its requester or ops edit it."""
        rights = set(self.business.rights_of(user))
        if self.requester_id == user.pk:
            rights.discard(Right.APPROVE)
        elif not user.is_ops:
            rights.discard(Right.EDIT)
        return rights

    def require(self, user, right):
        if right not in self.rights_of(user):
            raise PermissionDenied(_("You lack the right to %(right)s.") % {"right": Right(right).label})

    def plan(self, machines):
        """{machine id: stage} of what the requester wrote, for these machines; ValidationError when it cannot be."""
        wishes = {"pre-release": self.plan_pre_release, "gray-release": self.plan_gray_release}
        return plan(machines, wishes)

    def ask(self, by, machines):
        """Opens this unsaved job for `machines`, as `by`."""
        with transaction.atomic():
            self.requester = by
            self.save(force_insert=True)
            JobMachine.objects.choose(self, machines, self.plan(machines))
            self.record(Event.Verb.ASKED, by, became=self.Status.WAITING, version=self.version, machines=len(machines))

    def edit(self, by, machines):
        """Saves the changed fields and machines; an approval given before was for something else and is void."""
        with transaction.atomic():
            changed = {"approver": None, "approved_at": None, "revision": models.F("revision") + 1}
            was = self._move(self.BEFORE_FIRST_STAGE, self.Status.WAITING, **changed)
            self.save(update_fields=["title", "version", "plan_pre_release", "plan_gray_release", "remark"])
            JobMachine.objects.choose(self, machines, self.plan(machines))
            facts = {"version": self.version, "machines": len(machines)}
            self.record(Event.Verb.EDITED, by, "", was, self.Status.WAITING, **facts)

    def withdraw(self, by, reason):
        with transaction.atomic():
            was = self._move(self.BEFORE_FIRST_STAGE, self.Status.WITHDRAWN)
            self.record(Event.Verb.WITHDRAWN, by, reason, was, self.Status.WITHDRAWN)

    def approve(self, by, reason=""):
        """Approves this revision: what `by` read, not what the job may have become since."""
        with transaction.atomic():
            was = self._move([self.Status.WAITING], self.Status.APPROVED, approver=by, approved_at=Now())
            self.record(Event.Verb.APPROVED, by, reason, was, self.Status.APPROVED)

    def excuse(self, by, machines, reason):
        """Lets the job be done without `machines`; their rollback stays possible. Called under the job's lock."""
        rows = self.job_machines.filter(excused_at=None)
        ids = [machine.pk for machine in machines]
        some = [rows.filter(machine__in=ids[first : first + 500]) for first in range(0, len(ids), 500)]
        if sum(few.update(excused_at=Now(), excused_by=by, excuse=reason) for few in some) != len(machines):
            raise JobMoved(_("Some of these machines were excused meanwhile, or are not of this job."))
        self.record(Event.Verb.EXCUSED, by, reason, **named(machines))

    def begin(self):
        """Marks that a stage runs; from here on the job can no longer be edited or withdrawn."""
        self._move(self.RELEASABLE, self.Status.IN_PROGRESS)

    def conclude(self, status):
        """Marks what the ledger says of the whole job now; a job that moved meanwhile is left as it is."""
        Job.objects.filter(pk=self.pk, status__in=self.RELEASABLE).update(status=status)

    def record(self, verb, by, reason="", was="", became="", stage="", **detail):
        return self.events.create(
            verb=verb,
            actor=by,
            reason=reason,
            was=was,
            became=became,
            stage=stage,
            detail=detail,
            origin=origin.current(),
        )

    def lock(self):
        """Inside a transaction: whatever changes this job's runs goes one after the other from here on."""
        # Not its key: whoever only writes an event of this job, as a reaper does, must not wait for it.
        rows = Job.objects.select_for_update(of=("self",), no_key=True)
        return rows.select_related("business").get(pk=self.pk)

    def _move(self, old, new, **values):
        """Takes this revision from one of the states `old` to `new`; returns from which."""
        for was in old:
            if Job.objects.filter(pk=self.pk, status=was, revision=self.revision).update(status=new, **values):
                self.refresh_from_db(fields=["status", *values])
                return was
        raise JobMoved(_("This job was changed meanwhile: it is no longer in the state this step begins from."))


def named(machines):
    """What an event keeps of machines: how many, and the first names."""
    return {"machines": len(machines), "hostnames": [machine.hostname for machine in machines[:20]]}
