from django.core.checks import Tags, Warning, register
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from jobs import append_only


@register(Tags.database)
def events_are_append_only(app_configs, databases, **kwargs):
    """Runs with `migrate` and `check --database default`, once the triggers should be there."""
    if not databases or append_only.INSTALLED_BY not in MigrationRecorder(connection).applied_migrations():
        return []
    if missing := append_only.missing():
        return [
            Warning(
                f"The database does not refuse changes of events: {', '.join(missing)} is missing or altered.",
                hint="manage.py verify_events tells whether the events are whole; --restore-triggers mends this.",
                id="jobs.W001",
            )
        ]
    return []
