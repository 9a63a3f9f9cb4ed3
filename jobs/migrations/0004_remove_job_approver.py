from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0003_approvals'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='job',
            name='job_not_approved_by_requester',
        ),
        migrations.RemoveConstraint(
            model_name='job',
            name='job_approved_first',
        ),
        migrations.RemoveField(
            model_name='job',
            name='approver',
        ),
        migrations.AddConstraint(
            model_name='job',
            constraint=models.CheckConstraint(condition=models.Q(('status__in', ['waiting', 'withdrawn']), ('approved_at__isnull', False), _connector='OR'), name='job_approved_first'),
        ),
    ]
