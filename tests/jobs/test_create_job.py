import socket

import pytest
from django.core.management import CommandError
from django.db import IntegrityError, transaction

from jobs.models import Business, Job, Listing, Membership
from jobs.rights import Role
from tests.commands import CONFLICT, MISTAKE, fail, help_of, say, say_json
from tests.conftest import list_machines, mark_fresh, rows

CREATE = ("create_job", "--as", "requester")


@pytest.fixture(autouse=True)
def everybody(machines, requester, publisher, approver, ops, outsider):
    """The people and machines that a command may name."""


def test_a_job_is_asked_for_on_named_machines():
    assert "waits for approval" in say(*CREATE, "payment", "2.14.3", "pay-1", "pay-2")
    job = Job.objects.get()
    assert (job.requester.username, job.version, job.status) == ("requester", "2.14.3", "waiting")
    assert sorted(job.machines.values_list("hostname", flat=True)) == ["pay-1", "pay-2"]
    assert job.title == "payment 2.14.3"


def test_a_job_is_asked_for_on_all_machines_with_title_and_remark():
    say(*CREATE, "payment", "2.14.3", "--all", "--title", "修复", "--remark", "one\ntwo")
    job = Job.objects.get()
    assert (job.machines.count(), job.title, job.remark) == (6, "修复", "one\ntwo")


def test_machines_may_be_named_as_a_range():
    say(*CREATE, "payment", "2.14.3", "PAY-[1-2]", "pay-2,pay-4")
    assert sorted(Job.objects.get().machines.values_list("hostname", flat=True)) == ["pay-1", "pay-2", "pay-4"]


@pytest.mark.parametrize(
    ("named", "told"), [("pay-[5-9]", "choose from: pay-[7-9]"), ("pay-[1-30000]", "choose from: pay-[1-30000]")]
)
def test_what_of_a_range_is_no_machine_is_told_as_one(named, told):
    assert fail(*CREATE, "payment", "2.14.3", named, code=MISTAKE).endswith(told)


def test_more_names_than_a_list_may_have():
    said = fail(*CREATE, "payment", "2.14.3", "pay-[1-15000]", "web-[1-15000]", code=MISTAKE)
    assert said == "These are more names than one list may have."


def test_machines_may_be_named_after_an_option():
    say(*CREATE, "payment", "2.14.3", "--title", "Refunds", "pay-1", "--remark", "small", "pay-2")
    job = Job.objects.get()
    assert sorted(job.machines.values_list("hostname", flat=True)) == ["pay-1", "pay-2"]
    assert (job.title, job.remark) == ("Refunds", "small")


def test_a_version_given_as_an_option_is_told_where_it_goes():
    with pytest.raises(CommandError, match="say the version after the business: BUSINESS 2.14.3"):
        say(*CREATE, "payment", "--version", "2.14.3", "pay-1")
    assert not Job.objects.exists()


def test_json_tells_what_a_script_goes_on_with():
    assert say_json(*CREATE, "payment", "2.14.3", "--all") == {
        "job": Job.objects.get().pk,
        "status": "waiting",
        "machines": 6,
    }


def test_the_same_again_is_another_job():
    first, again = (say_json(*CREATE, "payment", "2.14.3", "pay-1")["job"] for _ in range(2))
    assert [first, again] == [*Job.objects.order_by("pk").values_list("pk", flat=True)]


@pytest.fixture
def writes(monkeypatch):
    """Has a command write a business with this instead of its job."""

    def write(**wrong):
        with transaction.atomic():
            Business.objects.create(**wrong)

    return lambda **wrong: monkeypatch.setattr(Job, "ask_once", lambda *_: write(**wrong))


def test_what_the_database_refuses_for_what_others_wrote_is_a_conflict(writes):
    writes(slug="payment")
    assert "Somebody else was quicker" in fail(*CREATE, "payment", "2.14.3", "pay-1", code=CONFLICT)


def test_what_it_would_refuse_whatever_others_wrote_is_a_fault(writes):
    writes(slug="new", approvers_needed=10)
    with pytest.raises(IntegrityError):
        say(*CREATE, "payment", "2.14.3", "pay-1")


def test_the_same_for_another_business_is_another_job(requester, orders):
    Membership.objects.create(user=requester, business=orders, role=Role.REQUESTER)
    Listing.objects.take(orders, rows("pay-1"))
    jobs = {say_json(*CREATE, slug, "2.14.3", "pay-1", "--title", "Fix")["job"] for slug in ("payment", "orders")}
    assert len(jobs) == 2


def test_the_event_tells_that_it_was_a_command():
    say(*CREATE, "payment", "2.14.3", "pay-1")
    event = Job.objects.get().events.get()
    assert event.actor.username == "requester"
    assert event.origin.startswith(f"command on {socket.gethostname()}, pid ")


def test_host_names_are_read_in_any_case_and_once():
    say(*CREATE, "payment", "2.14.3", "PAY-1", "pay-1")
    assert Job.objects.get().machines.get().hostname == "pay-1"


def test_machines_that_the_business_does_not_have_are_named(orders, payment):
    list_machines(orders, "ord-1")
    Listing.objects.take(payment, rows(*(f"pay-{number}" for number in range(1, 6))))
    said = fail(*CREATE, "payment", "2.0", "pay-1", "pay-6", "ord-1", "nonsense", code=MISTAKE)
    assert "pay-6, ord-1, nonsense" in said
    assert not Job.objects.exists()


@pytest.mark.parametrize(("named", "code"), [("pay-1", None), ("pay-7", CONFLICT)])
def test_what_an_old_list_lacks_may_come_with_the_next(payment, config_files, capsys, named, code):
    Business.objects.update(asked_at=None)
    (config_files / "payment.json").write_text("no json")
    if code:
        assert fail(*CREATE, "payment", "2.0", named, code=code).endswith("from: pay-7")
    else:
        say(*CREATE, "payment", "2.0", named)
    assert capsys.readouterr().err.startswith("The config service gives no list that can be taken: The answer is")


def test_a_business_that_never_had_a_machine(orders, requester, config_files):
    Membership.objects.create(user=requester, business=orders, role=Role.REQUESTER)
    mark_fresh(orders)
    assert "no live machine" in fail(*CREATE, "orders", "2.0", "--all", code=MISTAKE)
    Business.objects.update(asked_at=None)
    assert "no live machine" in fail(*CREATE, "orders", "2.0", "--all", code=CONFLICT)


@pytest.mark.parametrize("chosen", [[], ["pay-1", "--all"]])
def test_machines_are_named_or_all_are_taken(chosen):
    assert "--all" in fail(*CREATE, "payment", "2.0", *chosen, code=MISTAKE)
    assert not Job.objects.exists()


@pytest.mark.parametrize("version", ["../../x", "{{7*7}}", "a;b", "", "x" * 65])
def test_a_version_that_is_none_is_refused(version):
    assert fail(*CREATE, "payment", version, "--all", code=MISTAKE).startswith("version: ")
    assert not Job.objects.exists()


@pytest.mark.parametrize("title", ["x" * 256, "a\x1b[2Jb", "a\u202eb"])
def test_a_title_that_no_page_takes_is_refused(title):
    assert "--title:" in fail(*CREATE, "payment", "2.0", "--all", "--title", title, code=MISTAKE)


@pytest.mark.parametrize(
    ("user", "said"),
    [
        ("nobody", "no active user"),
        ("approver", "lacks the right"),
        ("outsider", "sees no such"),
    ],
)
def test_who_may_not_ask_is_told_so(user, said):
    assert said in fail("create_job", "--as", user, "payment", "2.0", "--all", code=MISTAKE)
    assert not Job.objects.exists()


def test_a_person_who_was_deactivated_does_nothing_more(requester):
    requester.is_active = False
    requester.save()
    assert "no active user" in fail(*CREATE, "payment", "2.0", "--all", code=MISTAKE)


def test_a_business_that_is_not_there_is_refused():
    assert "sees no such" in fail(*CREATE, "nonsense", "2.0", "--all", code=MISTAKE)


@pytest.mark.parametrize("user", ["publisher", "ops"])
def test_others_who_may_ask(user):
    say("create_job", "--as", user, "payment", "2.0", "--all")
    assert Job.objects.get().requester.username == user


def test_help_says_what_it_does(capsys):
    said = help_of("create_job", capsys)
    assert "Asks for a release" in said
    assert "--as" in said
