from django.db import migrations, models

from jobs import append_only


class Migration(migrations.Migration):

    dependencies = [("jobs", "0005_event_chain")]

    operations = [
        migrations.AlterField("event", "number", models.PositiveIntegerField(verbose_name="number in its chain")),
        migrations.AlterField(
            model_name='event',
            name='verb',
            field=models.CharField(choices=[('asked', 'asked for'), ('edited', 'edited'), ('withdrawn', 'withdrew'), ('approved', 'approved'), ('lapsed', 'made approvals void'), ('started', 'started'), ('skipped', 'skipped'), ('rolled_back', 'started the rollback of'), ('ended', 'ended'), ('lost', 'lost sight of'), ('resolved', 'resolved'), ('paused', 'paused'), ('resumed', 'resumed'), ('cancelled', 'cancelled'), ('excused', 'excused'), ('added', 'added'), ('changed', 'changed'), ('deleted', 'deleted'), ('asked_again', 'asked for the machines of'), ('signed_out', 'ended all sessions of'), ('unlocked', 'unlocked the login of'), ('exported', 'exported'), ('pruned', 'pruned')], max_length=20, verbose_name='what'),
        ),
        migrations.AddConstraint(
            model_name='event',
            constraint=models.UniqueConstraint(fields=('job', 'number'), name='one_event_per_number'),
        ),
        migrations.AddConstraint(
            model_name='event',
            constraint=models.UniqueConstraint(condition=models.Q(('job', None)), fields=('number',), name='one_own_event_per_number'),
        ),
        migrations.AddConstraint(
            model_name='event',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('job__isnull', False), ('subject', '')), models.Q(('job', None), models.Q(('subject', ''), _negated=True)), _connector='OR'), name='event_of_job_or_subject'),
        ),
        # Whoever makes this table anew later, as SQLite does for most changes of it, installs the triggers again.
        migrations.RunPython(
            lambda apps, schema_editor: append_only.install(),
            lambda apps, schema_editor: append_only.remove(),
        ),
    ]
