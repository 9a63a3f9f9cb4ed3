import pytest

from jobs.models import Job, Membership
from jobs.rights import Role
from tests.commands import CONFLICT, MISTAKE, fail, help_of, say, say_json

APPROVE = ("approve_job", "--as", "approver")


@pytest.fixture
def waiting(make_job):
    return make_job(approved=False)


def stored(job):
    return Job.objects.get(pk=job.pk)


def test_a_job_is_approved_with_a_remark(waiting, approver):
    assert "is approved" in say(*APPROVE, waiting.pk, "--remark", "read it")
    assert (stored(waiting).status, stored(waiting).approved_by) == ("approved", "approver")
    event = waiting.events.get(verb="approved")
    assert (event.actor, event.reason) == (approver, "read it")
    assert event.origin.startswith("command on ")


def test_json_tells_the_new_state(waiting):
    assert say_json(*APPROVE, waiting.pk) == {"job": waiting.pk, "status": "approved", "approvals_left": 0}


def test_an_approved_job_is_a_conflict(job):
    assert "changed meanwhile" in fail(*APPROVE, job.pk, code=CONFLICT)
    assert job.events.filter(verb="approved").count() == 1


def test_nobody_approves_their_own_job(waiting, requester, payment):
    Membership.objects.create(user=requester, business=payment, role=Role.APPROVER)
    assert "approve this job" in fail("approve_job", "--as", "requester", waiting.pk, code=MISTAKE)
    assert stored(waiting).status == "waiting"


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("publisher", "lack the right to approve"),
        ("ops", "lack the right to approve"),
        ("outsider", "sees no such"),
        ("nobody", "no active user"),
    ],
)
def test_who_may_not_approve_is_told_so(waiting, publisher, ops, outsider, user, said):
    assert said in fail("approve_job", "--as", user, waiting.pk, code=MISTAKE)
    assert stored(waiting).status == "waiting"


@pytest.mark.parametrize("number", [0, 7777, 10**30])
def test_a_job_that_is_not_there_is_refused(waiting, number):
    assert "sees no such" in fail(*APPROVE, number, code=MISTAKE)


@pytest.mark.parametrize("remark", ["\x1b[2J", "a\u202eb", "x" * 2001])
def test_a_remark_that_no_page_takes_is_refused(waiting, remark):
    assert "--remark:" in fail(*APPROVE, waiting.pk, "--remark", remark, code=MISTAKE)
    assert stored(waiting).status == "waiting"


def test_help_says_what_it_does(capsys):
    assert "Approves a job" in help_of("approve_job", capsys)


class TestDryRun:
    def test_tells_what_would_happen_and_changes_nothing(self, waiting, approver, release_task):
        said = say(*APPROVE, waiting.pk, "--dry-run")
        assert "by site: sh-1 6" in said
        assert not {"last:", "planned:", "added:"} & set(said.split())  # there is nothing to tell of them
        assert "tasks: deploy · v1" in said
        assert "would be approved with --revision 1" in said
        assert (stored(waiting).status, waiting.events.count()) == ("waiting", 1)

    def test_as_json(self, waiting, approver):
        told = say_json(*APPROVE, waiting.pk, "--dry-run")
        assert (told["revision"], told["version"], told["last"]) == (1, "2.0", None)

    def test_what_would_be_refused_is(self, waiting, approver, payment, requester, machines):
        payment.approvers_needed = 2
        payment.save()
        waiting.edit(requester, machines)
        dry_run = (*APPROVE, waiting.pk, "--dry-run")
        assert "changed meanwhile" in fail(*dry_run, "--revision", 1, code=CONFLICT)
        say(*APPROVE, waiting.pk)
        assert "approved this job already" in fail(*dry_run, code=CONFLICT)
        assert "approved this job already" in fail(*APPROVE, waiting.pk, code=CONFLICT)

    def test_nor_would_a_job_be_approved_again(self, job):
        assert "changed meanwhile" in fail(*APPROVE, job.pk, "--dry-run", code=CONFLICT)

    def test_is_for_approvers(self, waiting, publisher):
        assert "approve this job" in fail("approve_job", "--as", "publisher", waiting.pk, "--dry-run", code=MISTAKE)


def test_what_it_approves_is_told_first(waiting, approver):
    assert "version: 2.0" in say(*APPROVE, waiting.pk)


def test_only_the_revision_that_was_read_is_approved(waiting, approver, requester, machines):
    waiting.edit(requester, machines[:1])
    assert "changed meanwhile" in fail(*APPROVE, waiting.pk, "--revision", "1", code=CONFLICT)
    assert stored(waiting).status == "waiting"
    say(*APPROVE, waiting.pk, "--revision", "2")
    assert stored(waiting).status == "approved"


@pytest.mark.parametrize("revision", [0, -1])
def test_a_revision_that_never_was_is_refused(waiting, approver, revision):
    fail(*APPROVE, waiting.pk, f"--revision={revision}", code=MISTAKE)
    assert stored(waiting).status == "waiting"


def test_the_first_of_two_approvals_says_that_one_is_missing(waiting, approver, requester, payment, machines):
    payment.approvers_needed = 2
    waiting.edit(requester, machines)
    assert "waits for 1 more" in say(*APPROVE, waiting.pk)
