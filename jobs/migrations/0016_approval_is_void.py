from django.db import migrations, models


def make_void(apps, schema_editor):
    """A withdrawn job kept when it had been approved."""
    apps.get_model("jobs", "Job").objects.filter(status="withdrawn").update(approved_at=None)


class Migration(migrations.Migration):
    dependencies = [("jobs", "0015_job_submit_key")]

    operations = [
        migrations.RunPython(make_void, migrations.RunPython.noop),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.CheckConstraint(
                condition=~models.Q(status__in=["waiting", "sent_back", "withdrawn"]) | models.Q(approved_at=None),
                name="job_approval_is_void",
            ),
        ),
    ]
