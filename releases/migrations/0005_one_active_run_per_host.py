from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("releases", "0004_place_of_machine_run"),
    ]

    operations = [
        migrations.AddConstraint(
            model_name="machinerun",
            constraint=models.UniqueConstraint(
                condition=models.Q(status__in=["queued", "claimed", "running", "unknown"]),
                fields=("address", "port", "site"),
                name="one_active_run_per_host",
            ),
        ),
    ]
