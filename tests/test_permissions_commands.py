"""Every command x everybody in whose name it can be called: who may, and what the others are told."""

import pytest
from django.core.management import CommandError, get_commands, load_command_class

from jobs.commands import PortalCommand
from jobs.models import Membership
from jobs.rights import Role
from tests.commands import MISTAKE, say
from tests.conftest import make_user

pytestmark = pytest.mark.one_database

PEOPLE = ["requester", "publisher", "approver", "ops", "outsider", "staff", "inactive"]
YES, LACKS, HIDDEN, NOBODY = "yes", "lacks the right", "sees no such job", "no such user"
TOLD = {"lack": LACKS, "is for ops": LACKS, "sees no such": HIDDEN, "There is no active user": NOBODY}

TABLE = {
    #                                        requester  publisher  approver  ops  another business  staff  inactive
    "create_job payment 3.0 --all":          [YES, YES, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "job_status {waiting}":                  [YES, YES, YES, YES, HIDDEN, HIDDEN, NOBODY],
    "machine_status payment pay-1":          [YES, YES, YES, YES, HIDDEN, HIDDEN, NOBODY],
    "machine_log {run_id} pay-1":            [YES, YES, YES, YES, HIDDEN, HIDDEN, NOBODY],
    "approve_job {waiting}":                 [LACKS, LACKS, YES, LACKS, HIDDEN, HIDDEN, NOBODY],
    "approve_job {waiting} --dry-run":       [LACKS, LACKS, YES, LACKS, HIDDEN, HIDDEN, NOBODY],
    "withdraw_job {waiting} --reason x":     [YES, LACKS, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "send_back_job {waiting} --reason x":    [LACKS, LACKS, YES, LACKS, HIDDEN, HIDDEN, NOBODY],
    "skip_stage {approved} pre-release --reason x":
                                             [LACKS, YES, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "excuse_machines {run} pay-1 --reason x":
                                             [LACKS, YES, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "grant_leave {waiting} --reason x":      [LACKS, LACKS, YES, LACKS, HIDDEN, HIDDEN, NOBODY],
    "run_stage {approved} pre-release --all --remark x":
                                             [LACKS, YES, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "run_stage {approved} pre-release --all --remark x --dry-run":
                                             [LACKS, YES, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "run_stage {waiting} pre-release --all --break-glass x":
                                             [LACKS, LACKS, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "rollback_stage {run} all --reason x":   [LACKS, YES, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "rollback_stage {run} all --reason x --dry-run":
                                             [LACKS, YES, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "resolve_machines {run_id} failed pay-1 --reason x":
                                             [LACKS, YES, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "pause_run {run_id}":                    [LACKS, YES, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "resume_run {run_id}":                   [LACKS, YES, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "cancel_run {run_id}":                   [LACKS, YES, LACKS, YES, HIDDEN, HIDDEN, NOBODY],
    "stop_world --reason x":                 [LACKS, LACKS, LACKS, YES, LACKS, LACKS, NOBODY],
    "resume_world --reason x":               [LACKS, LACKS, LACKS, YES, LACKS, LACKS, NOBODY],
    "sync_machines payment":                 [LACKS, LACKS, LACKS, YES, LACKS, LACKS, NOBODY],
}  # fmt: skip
# Whoever has a shell on the portal's host calls these; they act in nobody's name.
IN_NOBODYS_NAME = {"demo", "prune_logs", "release_worker", "verify_events"}
OURS = {name: app for name, app in get_commands().items() if app in ("deploy_portal", "jobs", "releases")}


@pytest.fixture
def world(make_job, start, machines, approver, publisher, ops, outsider, payment):
    """What the calls name; a run that goes on, and people of every kind."""
    make_user("staff", is_staff=True)
    gone = make_user("inactive", is_active=False)
    Membership.objects.bulk_create([Membership(user=gone, business=payment, role=role) for role in Role])
    run = start(make_job(), machines[:1])
    waiting, approved = make_job(approved=False), make_job()
    return {"waiting": waiting.pk, "approved": approved.pk, "run": run.stage.job_id, "run_id": run.pk}


def answer(call, person):
    """What `person` gets to hear; whatever comes after the question of rights is a yes."""
    name, *arguments = call.split()
    try:
        say(name, "--as", person, *arguments)
    except CommandError as error:
        told = [word for said, word in TOLD.items() if said in str(error)]
        assert not told or error.returncode == MISTAKE
        return told[0] if told else YES
    return YES


def test_who_may_call_what(world, case):
    for call, answers in TABLE.items():
        for person, expected in zip(PEOPLE, answers, strict=True):
            with case(f"{call}, {person}"):
                assert answer(call.format(**world), person) == expected


def test_every_command_of_ours_has_its_row():
    assert {call.split()[0] for call in TABLE} | IN_NOBODYS_NAME == set(OURS)


@pytest.mark.parametrize(("name", "app"), OURS.items())
def test_a_command_in_somebodys_name_is_one_that_asks_for_it(name, app):
    assert isinstance(load_command_class(app, name), PortalCommand) is (name not in IN_NOBODYS_NAME)
