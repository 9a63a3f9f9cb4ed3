from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("releases", "0006_newest_of_machine"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="run",
            index=models.Index(fields=["-ended_at"], name="run_by_end"),
        ),
    ]
