import re

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from jobs.validators import printable_line

# No more than the executor takes: what it refuses would be found out only on the machines.
SHELL_LINE = re.compile(r"#!\s*/(usr/)?bin/(env\s+)?(ba|da)?sh(\s+-[aefuvx]+)?\s*")
SCRIPT_LIMIT = 1_000_000


class Action(models.TextChoices):
    RELEASE = "release", _("Release")
    ROLLBACK = "rollback", _("Rollback")


def run_named(action, stage):
    """What a run of this action does to a stage, as a sentence names it."""
    return _("Rollback of %(stage)s") % {"stage": stage} if action == Action.ROLLBACK else stage


def shown_as(status, action):
    """A status of such a run, or of a machine in it, as pages show it: what went back is no success of the release."""
    return "rolled_back" if action == Action.ROLLBACK and status == "succeeded" else status


def shell_script(value):
    """The script goes to sh (or bash, when its first line says so) on the machine; anything else would fail there."""
    if "\0" in value or len(value.encode()) > SCRIPT_LIMIT:
        raise ValidationError(_("A script is text of up to 1 MB."))
    if value.startswith("#!") and not SHELL_LINE.fullmatch(value.split("\n", 1)[0]):
        raise ValidationError(
            _(
                "A task is a script for sh or bash; begin it with #!/bin/sh or #!/bin/bash. Of options, that line takes"
                " -a, -e, -f, -u, -v and -x, as in -eu; set others below it, as with “set -o pipefail”."
            )
        )


class TaskQuerySet(models.QuerySet):
    def offered_to(self, business, action):
        """The tasks in use for `action`: the business's own and the shared ones."""
        own_or_shared = Q(business=business) | Q(business=None)
        return self.filter(own_or_shared, action=action, in_use=True, latest__isnull=False).select_related("latest")


class Task(models.Model):
    """A shell script that ops keep, for one business or shared by all. Its text lives in its versions."""

    name = models.CharField(_("name"), max_length=100, validators=[printable_line])
    business = models.ForeignKey(
        "jobs.Business",
        models.PROTECT,
        null=True,
        blank=True,
        verbose_name=_("business"),
        help_text=_("Empty: shared by all."),
    )
    action = models.CharField(_("used for"), max_length=10, choices=Action)
    timeout = models.PositiveIntegerField(
        _("time limit"),
        default=600,
        validators=[MinValueValidator(1), MaxValueValidator(86_400)],
        help_text=_("In seconds; a machine that takes longer is timed out."),
    )
    in_use = models.BooleanField(_("in use"), default=True)
    latest = models.ForeignKey("TaskVersion", models.PROTECT, null=True, related_name="+", editable=False)

    objects = TaskQuerySet.as_manager()

    class Meta:
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["business", "name"], name="one_task_per_name"),
            models.UniqueConstraint(fields=["name"], condition=Q(business=None), name="one_shared_task_per_name"),
            models.CheckConstraint(condition=Q(action__in=Action.values), name="task_action_known"),
        ]

    def __str__(self):
        return f"{self.name} · v{self.latest.number}" if self.latest else self.name

    def revise(self, script, by, check_script=""):
        """Makes `script` and its check the newest version; the same texts again make none."""
        script, check_script = script.replace("\r\n", "\n"), check_script.replace("\r\n", "\n")
        with transaction.atomic():
            # The newest version is read after the lock: PostgreSQL would join what it saw before it waited.
            task = Task.objects.select_for_update().get(pk=self.pk)
            if task.latest is None or (task.latest.script, task.latest.check_script) != (script, check_script):
                number = task.latest.number + 1 if task.latest else 1
                texts = {"script": script, "check_script": check_script}
                task.latest = task.versions.create(number=number, author=by, **texts)
                task.save(update_fields=["latest"])
            self.latest = task.latest
        return self.latest


class TaskVersion(models.Model):
    """One text of a task; runs point at the text that they ran, so it never changes."""

    task = models.ForeignKey(Task, models.PROTECT, related_name="versions", verbose_name=_("task"))
    number = models.PositiveIntegerField(_("version"))
    script = models.TextField(_("script"), validators=[shell_script])
    check_script = models.TextField(_("check"), blank=True, validators=[shell_script])
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, verbose_name=_("author"))
    created_at = models.DateTimeField(_("written"), db_default=Now(), editable=False)

    class Meta:
        verbose_name = _("task version")
        verbose_name_plural = _("task versions")
        ordering = ["-number"]
        constraints = [models.UniqueConstraint(fields=["task", "number"], name="one_text_per_version")]

    def __str__(self):
        return f"{self.task.name} · v{self.number}"
