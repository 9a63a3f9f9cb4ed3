from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from releases.models.machine_run import MachineRun


class LogBlockQuerySet(models.QuerySet):
    def lines(self):
        """Block by block as text, each line behind its time and stream: `14:03:59 err| no space left`."""
        blocks = self.order_by("number").values_list("at", "stream", "text")
        for at, stream, text in blocks.iterator(chunk_size=20):
            before = f"{timezone.localtime(at):%H:%M:%S} {'---' if stream == LogBlock.Stream.MARK else stream}| "
            yield "".join(f"{before}{line}\n" for line in text.splitlines())


class LogBlock(models.Model):
    """A piece of what a machine said, as inert text, in the order in which it came."""

    class Stream(models.TextChoices):
        OUT = "out", _("output")
        ERR = "err", _("error output")
        MARK = "mark", _("the portal's own word")

    machine_run = models.ForeignKey(MachineRun, models.CASCADE, related_name="log_blocks")
    number = models.PositiveIntegerField()
    at = models.DateTimeField(db_default=Now())
    stream = models.CharField(max_length=4, choices=Stream)
    text = models.TextField()

    objects = LogBlockQuerySet.as_manager()

    class Meta:
        verbose_name = _("log block")
        verbose_name_plural = _("log blocks")
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["machine_run", "number"], name="one_log_block_per_number")]

    def __str__(self):
        return f"{self.machine_run_id}/{self.number}"
