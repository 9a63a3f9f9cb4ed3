"""The triggers by which the database itself refuses to change or delete an event."""

from django.db import connection

INSTALLED_BY = ("jobs", "0006_events_append_only")
REFUSAL = "Events are append-only: history only grows. Write a new event instead."

BODY = f"BEGIN RAISE EXCEPTION '{REFUSAL}' USING ERRCODE = 'restrict_violation'; END"

# Statement by statement, so that TRUNCATE is one of them; ALWAYS, so that no setting of a session turns it off.
POSTGRESQL = {
    "jobs_event_append_only": [
        f"CREATE OR REPLACE FUNCTION jobs_event_refuse() RETURNS trigger LANGUAGE plpgsql AS $${BODY}$$",
        "CREATE TRIGGER jobs_event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON jobs_event "
        "FOR EACH STATEMENT EXECUTE FUNCTION jobs_event_refuse()",
        "ALTER TABLE jobs_event ENABLE ALWAYS TRIGGER jobs_event_append_only",
    ]
}
# REPLACE deletes the row in its way without a word to the trigger of DELETE.
MOMENTS = {
    "jobs_event_no_update": "UPDATE ON jobs_event",
    "jobs_event_no_delete": "DELETE ON jobs_event",
    "jobs_event_no_replace": "INSERT ON jobs_event WHEN EXISTS (SELECT 1 FROM jobs_event "
    "WHERE id = NEW.id OR (job_id IS NEW.job_id AND number = NEW.number))",
}
SQLITE = {
    name: [f"CREATE TRIGGER {name} BEFORE {moment} BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"]
    for name, moment in MOMENTS.items()
}
TRIGGERS = {"postgresql": POSTGRESQL, "sqlite": SQLITE}


def install():
    remove()
    _execute(statement for statements in TRIGGERS[connection.vendor].values() for statement in statements)


def remove():
    on_table = " ON jobs_event" if connection.vendor == "postgresql" else ""
    _execute(f"DROP TRIGGER IF EXISTS {name}{on_table}" for name in TRIGGERS[connection.vendor])


def missing():
    """The names of the triggers that the database should have and has not, or has otherwise than they were made."""
    present = {"postgresql": _present_in_postgresql, "sqlite": _present_in_sqlite}[connection.vendor]
    return sorted(TRIGGERS[connection.vendor].keys() - present())


def _present_in_postgresql():
    whole = (
        "SELECT tgname FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid WHERE tgrelid = to_regclass('jobs_event') "
        "AND tgenabled = 'A' AND tgtype = %s AND tgqual IS NULL AND prosrc = %s"
    )
    before, delete, update, truncate = 2, 8, 16, 32
    return {name for (name,) in _fetch(whole, [before + delete + update + truncate, BODY])}


def _present_in_sqlite():
    found = _fetch("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'jobs_event'")
    return {name for name, sql in found if [sql] == SQLITE.get(name)}


def _fetch(query, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchall()


def _execute(statements):
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
