import json

from django.conf import settings
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.utils.translation import gettext_lazy as _

from jobs.columns import JsonList
from jobs.models.machine import PLACE, Listing, Machine, Place
from jobs.plan import Kind

SAME_PLACE = Q(**{name: F(f"machine__{name}") for name in PLACE})


class JobMachineQuerySet(models.QuerySet):
    def choose(self, job, machines, plan):
        """Makes `machines`, as they are now, those of a `job` that has none; `plan` is {machine id: its stage}."""
        self.bulk_create(
            [
                JobMachine(
                    job=job,
                    machine_id=machine.pk,
                    planned=plan.get(machine.pk, ""),
                    **{name: getattr(machine, name) for name in PLACE},
                )
                for machine in machines
            ],
            batch_size=2000,
        )

    def on(self, name):
        """Those whose machine has this host name, or this address now."""
        name = name.lower()
        return self.filter(machine__in=Machine.objects.filter(Q(hostname=name) | Q(address=name)).order_by())

    def by_plan(self):
        """{stage, empty for none: the ids of the machines that are planned for it}; those that are excused left out."""
        planned = self.filter(excused_at=None).values_list("planned").annotate(ids=JsonList("machine"))
        return {stage: set(json.loads(ids)) for stage, ids in planned}

    def moved(self):
        """Those whose machine is no longer where it was when it was chosen."""
        return self.filter(~SAME_PLACE).select_related("machine")

    def gone(self):
        """Those whose machine the config service no longer gives for the job's business."""
        listed = Listing.objects.live().filter(business=OuterRef("job__business"), machine=OuterRef("machine"))
        return self.exclude(Exists(listed)).select_related("machine")

    def excused_or_moved(self):
        return self.filter(~SAME_PLACE | Q(excused_at__isnull=False)).select_related("machine", "excused_by")

    def moved_of(self, machines):
        """Those of them that are of these machines."""
        ids = {machine.pk for machine in machines}
        return [job_machine for job_machine in self.moved() if job_machine.machine_id in ids] if ids else []

    def accept_moves(self, moved):
        """From here on, where their machines are now counts as where they were chosen."""
        for job_machine in moved:
            for name in PLACE:
                setattr(job_machine, name, getattr(job_machine.machine, name))
        # Each takes nine parameters, and some builds of SQLite have no more than 999.
        self.bulk_update(moved, PLACE, batch_size=100)


class JobMachine(models.Model):
    """That a job is for a machine, where that was when it was chosen, and for which stage it is planned.

    The job is no longer for it once it was excused, with a reason.
    """

    job = models.ForeignKey("jobs.Job", models.CASCADE, related_name="job_machines", verbose_name=_("job"))
    machine = models.ForeignKey("jobs.Machine", models.PROTECT, related_name="job_machines", verbose_name=_("machine"))
    address = models.CharField(_("address when chosen"), max_length=253)
    port = models.PositiveIntegerField(_("SSH port when chosen"), default=22)
    user = models.CharField(_("SSH user when chosen"), max_length=32, blank=True)
    site = models.CharField(_("site when chosen"), max_length=255, blank=True)
    planned = models.CharField(_("planned for"), max_length=20, blank=True, choices=Kind)
    excused_at = models.DateTimeField(_("excused"), null=True, editable=False)
    excused_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        related_name="+",
        verbose_name=_("excused by"),
        editable=False,
    )
    excuse = models.TextField(_("excuse"), blank=True, editable=False)

    objects = JobMachineQuerySet.as_manager()

    class Meta:
        verbose_name = _("machine of a job")
        verbose_name_plural = _("machines of jobs")
        constraints = [
            models.UniqueConstraint(fields=["job", "machine"], name="one_row_per_machine_of_a_job"),
            models.CheckConstraint(
                condition=Q(excused_at=None) | (Q(excused_by__isnull=False) & ~Q(excuse="")),
                name="job_machine_excused_with_reason",
            ),
        ]

    def __str__(self):
        return _("%(machine)s of #%(job)s") % {"machine": self.machine, "job": self.job_id}

    @property
    def was_at(self):
        return str(Place.of(self))

    @property
    def is_at(self):
        return str(Place.of(self.machine))

    @property
    def move_in_words(self):
        told = {"machine": self.machine, "was": self.was_at, "now": self.is_at}
        return _("%(machine)s was chosen at %(was)s and is at %(now)s now.") % told
