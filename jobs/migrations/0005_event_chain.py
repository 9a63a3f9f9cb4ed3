import django.db.models.deletion
from django.db import migrations, models

from jobs.chain import seal


def chain(apps, schema_editor):
    """Numbers and seals the events that were written before there were chains."""
    Event = apps.get_model("jobs", "Event")
    last = None
    for event in Event.objects.order_by("job", "pk").iterator(chunk_size=2000):
        follows = last is not None and last.job_id == event.job_id
        event.number, event.previous = (last.number + 1, last.digest) if follows else (1, "")
        event.digest = seal(event)
        event.save(update_fields=["number", "previous", "digest"])
        last = event


class Migration(migrations.Migration):

    dependencies = [("jobs", "0004_remove_job_approver")]

    operations = [
        migrations.AddField(
            "event", "number", models.PositiveIntegerField(null=True, verbose_name="number in its chain")
        ),
        migrations.AddField(
            "event", "previous", models.CharField(blank=True, max_length=64, verbose_name="hash of the event before")
        ),
        migrations.AddField(
            "event", "digest", models.CharField(default="", max_length=64, verbose_name="hash"), preserve_default=False
        ),
        migrations.AddField(
            "event", "subject", models.CharField(blank=True, max_length=255, verbose_name="of no job, but of")
        ),
        migrations.AlterField(
            "event",
            "job",
            models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="events",
                to="jobs.job",
                verbose_name="job",
            ),
        ),
        migrations.RunPython(chain, migrations.RunPython.noop, elidable=True),
    ]
