from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("releases", "0005_one_active_run_per_host"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="machinerun",
            name="machine_run_by_machine",
        ),
        migrations.AddIndex(
            model_name="machinerun",
            index=models.Index(fields=["machine", "-ended_at", "-id"], name="machine_run_by_machine"),
        ),
    ]
