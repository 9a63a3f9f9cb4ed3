import contextlib
from datetime import timedelta

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import connection, models, transaction
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Now
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from deploy_portal.words import enumerated
from jobs.models.approval import Approval
from jobs.models.business import Business
from jobs.models.event import Event, first_names, told_of_machines, told_of_moves
from jobs.models.job_machine import JobMachine
from jobs.models.machine import PLACE, Place
from jobs.models.notice import Notice
from jobs.plan import Kind, plan
from jobs.rights import Right
from jobs.validators import printable_line, printable_text, release_version

MOVED = _("This job was changed meanwhile: it is no longer in the state this step begins from.")
WRITTEN = ["title", "version", "plan_pre_release", "plan_gray_release", "remark"]
# Who asks for the very same again within this time has pressed the button twice.
SENT_TWICE_WITHIN = timedelta(minutes=1)
PLAN_HELP = _("A number such as 1, a share such as 10 %, or host names; spread over the sites. Empty: no plan.")


class JobMoved(Exception):
    """The job is no longer in the state that this step begins from; nothing was changed."""


class FormUsed(Exception):
    """A form has made `job` already, and asks for something else now; nothing was made."""

    def __init__(self, job):
        self.job = job
        super().__init__(_("This form already made %(job)s.") % {"job": job})


class JobQuerySet(models.QuerySet):
    def seen_by(self, user):
        return self.filter(business__in=Business.objects.where(user, Right.VIEW))

    def found_by(self, search):
        """Those with this number, this text in their title, version or requester's name, or this machine."""
        number = search.removeprefix("#")
        found = Q(title__icontains=search) | Q(version__icontains=search) | Q(requester__username__icontains=search)
        found |= Q(pk__in=JobMachine.objects.on(search).values("job"))
        if number.isdecimal() and len(number) <= 18:  # which is less than any database's largest number
            found |= Q(pk=number)
        return self.filter(found)

    def waiting(self):
        return self.filter(status=Job.Status.WAITING)

    def to_approve(self, user):
        """Those that wait for `user`, who has neither written nor approved them yet."""
        edits = Event.objects.filter(job=OuterRef("pk"), verb=Event.Verb.EDITED, actor=user)
        given = Approval.objects.filter(job=OuterRef("pk"), revision=OuterRef("revision"), by=user)
        jobs = self.waiting().filter(business__in=Business.objects.where(user, Right.APPROVE))
        return jobs.filter(~Exists(edits), ~Exists(given)).exclude(requester=user)

    def under_way(self):
        return self.filter(status__in=Job.UNDER_WAY)


class Job(models.Model):
    """Release `version` of a business on these machines, because of `remark`."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting for approval")
        SENT_BACK = "sent_back", _("Sent back")
        APPROVED = "approved", _("Approved")
        IN_PROGRESS = "in_progress", _("In progress")
        RELEASED = "released", _("Released")
        ROLLED_BACK = "rolled_back", _("Rolled back")
        NOT_RELEASED = "not_released", _("Not released")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    BEFORE_APPROVERS = [Status.WAITING, Status.APPROVED]
    BEFORE_FIRST_STAGE = [*BEFORE_APPROVERS, Status.SENT_BACK]
    OPEN = [*BEFORE_FIRST_STAGE, Status.IN_PROGRESS]
    UNDER_WAY = [Status.APPROVED, Status.IN_PROGRESS]
    RELEASABLE = [*UNDER_WAY, Status.RELEASED, Status.ROLLED_BACK, Status.NOT_RELEASED]

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
    # What its business wanted when this revision was written.
    approvers_needed = models.PositiveSmallIntegerField(_("approvals needed"), default=1, editable=False)
    approved_at = models.DateTimeField(_("approved"), null=True, editable=False)
    break_glass = models.BooleanField(_("break-glass"), default=False, editable=False)
    submit_key = models.UUIDField(null=True, editable=False)

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ["-pk"]
        indexes = [models.Index(fields=["business", "status"], name="job_by_business")]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["waiting", "sent_back", "withdrawn"])
                | Q(approved_at__isnull=False)
                | Q(break_glass=True),
                name="job_approved_first",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["waiting", "sent_back", "withdrawn"]) | Q(approved_at=None),
                name="job_approval_is_void",
            ),
            models.UniqueConstraint(
                fields=["requester", "submit_key"],
                condition=Q(submit_key__isnull=False),
                name="one_job_per_form",
            ),
        ]

    def __str__(self):
        return f"#{self.pk} {self.business.slug} {self.version}"

    @property
    def is_releasable(self):
        return self.status in self.RELEASABLE

    @property
    def is_waiting(self):
        return self.status == self.Status.WAITING

    @property
    def is_before_approvers(self):
        """Whether approvers may still say yes or no to it."""
        return self.status in self.BEFORE_APPROVERS

    @property
    def is_before_first_stage(self):
        return self.status in self.BEFORE_FIRST_STAGE

    @property
    def approvals_now(self):
        """The approvals of this revision; those of earlier ones are void."""
        return [approval for approval in self.approvals.all() if approval.revision == self.revision]

    @property
    def approved_by(self):
        return enumerated(approval.by for approval in self.approvals_now)

    @property
    def approvals_left(self):
        return self.approvers_needed - len(self.approvals_now)

    @cached_property
    def sent_back(self):
        """The event that tells who sent it back, and why; None unless that is how it stands."""
        if self.status != self.Status.SENT_BACK:
            return None
        return self.events.filter(verb=Event.Verb.SENT_BACK).select_related("actor").first()

    def approvers(self):
        """Who may approve this job: nobody who asked for it or edited it."""
        authors = self.events.filter(verb=Event.Verb.EDITED, actor__isnull=False).values("actor")
        return self.business.members_with(Right.APPROVE).exclude(pk=self.requester_id).exclude(pk__in=authors)

    def approvers_left(self):
        """Those of them who have not approved this revision yet."""
        given = {approval.by_id for approval in self.approvals_now}
        return [user for user in self.approvers() if user.pk not in given]

    def rights_of(self, user):
        """What `user` may do with this job; nobody approves what they wrote, and only its requester or ops edit it."""
        rights = set(self.business.rights_of(user))
        if Right.APPROVE in rights and not self.approvers().filter(pk=user.pk).exists():
            rights.discard(Right.APPROVE)
        if self.requester_id != user.pk and not user.is_ops:
            rights.discard(Right.EDIT)
        return rights

    def require(self, user, right):
        """The rights of `user`, `right` among them."""
        rights = self.rights_of(user)
        if right not in rights:
            raise PermissionDenied(_("You lack the right to %(right)s.") % {"right": Right(right).label})
        return rights

    def plan(self, machines):
        """{machine id: stage} of what the requester wrote, for these machines; ValidationError when it cannot be."""
        wishes = {Kind.PRE_RELEASE: self.plan_pre_release, Kind.GRAY_RELEASE: self.plan_gray_release}
        return plan(machines, wishes)

    def ask(self, by, machines):
        """Opens this unsaved job for `machines`, as `by`; it is approved at once where no approval is needed."""
        with transaction.atomic():
            self.requester, self.approvers_needed = by, self.business.approvers_needed
            self.save(force_insert=True)
            JobMachine.objects.choose(self, machines, self.plan(machines))
            self._approve_if_enough()
            self.record(Event.Verb.ASKED, by, became=self.status, **self._written(machines))

    def ask_once(self, by, machines, key=None):
        """Like `ask`, unless `by` asked for just the same by the form or step `key`; returns that job then.

        A form without a key is the same for a moment. FormUsed when another job was asked for by that form.
        """
        with transaction.atomic():
            get_user_model().objects.select_for_update(no_key=True).get(pk=by.pk)
            just_now = {"created_at__gt": Now() - SENT_TWICE_WITHIN, "status__in": self.BEFORE_FIRST_STAGE}
            asked_so = Job.objects.filter(requester=by, **({"submit_key": key} if key else just_now))
            same = {name: getattr(self, name) for name in ("business", *WRITTEN)}
            ids = {machine.pk for machine in machines}
            for job in asked_so.filter(**same).exclude(status=self.Status.WITHDRAWN):
                if ids == set(job.machines.values_list("pk", flat=True)):
                    return job
            if key and (made := asked_so.first()):
                raise FormUsed(made)
            self.submit_key = key
            self.ask(by, machines)
        return self

    def edit(self, by, machines):
        """Saves the changed fields and machines; the approvals given before were for something else and are void."""
        with transaction.atomic():
            was = self._reopen(self.BEFORE_FIRST_STAGE)
            facts = self._written(machines) | self._changes(machines)
            self.save(update_fields=WRITTEN)
            self.job_machines.all().delete()
            JobMachine.objects.choose(self, machines, self.plan(machines))
            self._approve_if_enough()
            self.record(Event.Verb.EDITED, by, "", was, self.status, **facts)

    def withdraw(self, by, reason):
        with transaction.atomic():
            was = self._move(self.BEFORE_FIRST_STAGE, self.Status.WITHDRAWN, approved_at=None)
            self.record(Event.Verb.WITHDRAWN, by, reason, was, self.Status.WITHDRAWN)

    def approve(self, by, remark=""):
        """Approves this revision: what `by` read, not what the job may have become since."""
        with transaction.atomic():
            # Under the job's lock, so that of two approvals at once the second one counts the first.
            job = self.locked()
            job.may_approve(by, self.revision)
            job.approvals.create(revision=job.revision, by=by, requester_id=job.requester_id, remark=remark)
            given = len(job.approvals_now)
            job._approve_if_enough(given)
            facts = {"given": given, "needed": job.approvers_needed}
            job.record(Event.Verb.APPROVED, by, remark, self.status, job.status, **facts)
        self.refresh_from_db()

    def may_approve(self, by, revision):
        """Raises what `approve` would, of what `by` read."""
        self.require(by, Right.APPROVE)
        if (self.status, self.revision) != (self.Status.WAITING, revision):
            raise JobMoved(MOVED)
        if any(approval.by_id == by.pk for approval in self.approvals_now):
            raise JobMoved(_("You have approved this job already; somebody else must, too."))

    def send_back(self, by, reason):
        """Says no to this revision, also to one that was approved: edited, it is asked for anew."""
        with transaction.atomic():
            self.locked().require(by, Right.APPROVE)
            was = self._move(self.BEFORE_APPROVERS, self.Status.SENT_BACK, approved_at=None)
            self.record(Event.Verb.SENT_BACK, by, reason, was, self.Status.SENT_BACK)

    def lapse(self):
        """Makes void what was given by who may no longer approve: leave, and all approvals until a stage has begun."""
        self.leaves.lapse(self)
        if self.is_before_approvers and (lapsed := self.lapsed(self.approvals_now)):
            with contextlib.suppress(JobMoved), transaction.atomic():
                was = self._reopen(self.BEFORE_APPROVERS)
                self._approve_if_enough()
                approvers = [str(approval.by) for approval in lapsed]
                self.record(Event.Verb.LAPSED, None, "", was, self.status, approvers=approvers)

    def lapsed(self, given):
        """Those of `given`, approvals or leaves, whose giver may no longer approve this job."""
        allowed = set(self.approvers().values_list("pk", flat=True)) if given else set()
        return [one for one in given if one.by_id not in allowed]

    def excuse(self, by, machines, reason):
        """Lets the job be done without `machines`; their rollback stays possible. Called under the job's lock."""
        rows = self.job_machines.filter(excused_at=None)
        ids = [machine.pk for machine in machines]
        some = [rows.filter(machine__in=ids[first : first + 500]) for first in range(0, len(ids), 500)]
        if sum(few.update(excused_at=Now(), excused_by=by, excuse=reason) for few in some) != len(machines):
            raise JobMoved(_("Some of these machines were excused meanwhile, or are not of this job."))
        self.record(Event.Verb.EXCUSED, by, reason, **told_of_machines(machines))

    def begin(self):
        """Marks that a stage runs; from here on the job can no longer be edited or withdrawn."""
        self._move(self.RELEASABLE, self.Status.IN_PROGRESS)

    def begin_by_break_glass(self, by, reason):
        """As `begin`, by ops who need no publisher and no approval; marked for ever, and told to the approvers."""
        self.require(by, Right.BREAK_GLASS)
        unapproved = {"given": len(self.approvals_now), "needed": self.approvers_needed} if self.is_waiting else {}
        was = self._move([self.Status.WAITING, *self.RELEASABLE], self.Status.IN_PROGRESS, break_glass=True)
        self.record(Event.Verb.BREAK_GLASS, by, reason, was, self.status, **unapproved)
        Notice.objects.tell_approvers(self, by, reason)

    def conclude(self, status):
        """Marks what the ledger says of the whole job now; a job that moved meanwhile is left as it is."""
        Job.objects.filter(pk=self.pk, status__in=self.RELEASABLE).update(status=status)

    def record(self, verb, by, reason="", was="", became="", stage="", **detail):
        """Writes the next event of this job. Who also changes its runs locks the job before, several in order of id."""
        words = {"verb": verb, "reason": reason, "was": was, "became": became, "stage": stage}
        with transaction.atomic(savepoint=False):
            self.lock()
            return Event.objects.append(self, actor=by, detail=detail, **words)

    def has_just(self, verb, by, reason="", stage="", **facts):
        """Whether this is the last thing that a person did: who presses a button twice need not hear of a conflict.

        `facts` are some of what the event's detail says.
        """
        # How runs end goes on beside; that approvals lapsed undoes what was done.
        last = self.events.exclude(verb__in=[Event.Verb.ENDED, Event.Verb.LOST]).latest("number")
        is_this = (last.verb, last.actor_id, last.reason, last.stage) == (verb, by.pk, reason, stage)
        return is_this and facts.items() <= last.detail.items()

    def lock(self):
        """Inside a transaction: who changes this job's runs or tells of it goes one after the other from here on."""
        if connection.features.has_select_for_update:  # SQLite has one writer at a time anyway
            # Not its key: a new row that points at this job need not wait.
            Job.objects.select_for_update(no_key=True).values_list("pk").get(pk=self.pk)

    def locked(self):
        """This job as it is once it is locked."""
        rows = Job.objects.select_for_update(of=("self",), no_key=True)
        return rows.select_related("business").get(pk=self.pk)

    def _written(self, machines):
        """What an event keeps of what was asked for."""
        facts = {"version": self.version, "machines": len(machines)}
        return facts if self.approvers_needed else facts | {"needed": 0}

    def _changes(self, machines):
        """What an event keeps of how an edit changes fields and machines, and of the moves that it accepts."""
        saved = Job.objects.values(*WRITTEN).get(pk=self.pk)
        fields = [name for name, value in saved.items() if getattr(self, name) != value]
        rows = self.job_machines.values_list("machine", "machine__hostname", *PLACE)
        before = {pk: (hostname, Place(*place)) for pk, hostname, *place in rows}
        # Where these are: a sync may have moved them once more since they were read.
        now = {machine.pk: (machine.hostname, Place.of(machine)) for machine in machines}
        dropped = [before[pk][0] for pk in before.keys() - now]
        added = [now[pk][0] for pk in now.keys() - before]
        moves = [(*before[pk], now[pk][1]) for pk in before.keys() & now if before[pk][1] != now[pk][1]]
        told = first_names({"dropped": dropped, "added": added}) | told_of_moves(moves)
        return ({"fields": fields} if fields else {}) | told

    def _reopen(self, old):
        """Takes this revision from a state of `old` to a new one, which needs its own approvals; returns from which."""
        changed = {"approved_at": None, "approvers_needed": self.business.approvers_needed}
        return self._move(old, self.Status.WAITING, revision=F("revision") + 1, **changed)

    def _approve_if_enough(self, given=0):
        """`given` are the approvals of this revision: none of a new one."""
        if given >= self.approvers_needed:
            self._move([self.Status.WAITING], self.Status.APPROVED, approved_at=Now())

    def _move(self, old, new, **values):
        """Takes this revision from one of the states `old` to `new`; returns from which."""
        for was in old:
            if Job.objects.filter(pk=self.pk, status=was, revision=self.revision).update(status=new, **values):
                self.status = new
                if values:
                    self.refresh_from_db(fields=values)
                return was
        raise JobMoved(MOVED)
