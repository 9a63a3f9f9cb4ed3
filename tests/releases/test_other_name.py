"""One host under two names - renamed while something runs there, or listed by two businesses - is one machine."""

import pytest

from deploy_portal.models import User
from jobs.config_service.rows import MachineRow
from jobs.models import Job, Listing, Machine, Membership
from jobs.rights import Role
from releases.models import MachineRun, MachinesHeld, ReleaseStage
from tests.conftest import make_member, mark_fresh, rows
from tests.pages import page, source, stage_fields, words
from tests.parallel import at_once
from tests.workers import begin, end, state


def same_host(name):
    """pay-1's host, by another name."""
    return MachineRow(name, "10.0.0.1", 22, "", {"site": "sh-1"}, "sh-1")


@pytest.fixture
def renamed(payment, machines):
    """Renames pay-1 in the config service; returns the machine that there is then."""

    def rename():
        Listing.objects.take(payment, [*rows(*(f"pay-{number}" for number in range(2, 7))), same_host("new-name")])
        mark_fresh(payment)
        return Machine.objects.get(hostname="new-name")

    return rename


@pytest.fixture
def of_orders(orders, publisher, requester):
    """A job of orders, which lists pay-1's host as ord-9."""
    Listing.objects.take(orders, [same_host("ord-9")])
    mark_fresh(orders)
    for user, role in ((requester, Role.REQUESTER), (publisher, Role.PUBLISHER)):
        Membership.objects.create(user=user, business=orders, role=role)
    job = Job(business=orders, title="Orders 9", version="9")
    job.ask(requester, list(Machine.objects.filter(hostname="ord-9")))
    job.approve(make_member("second", orders, Role.APPROVER))
    return job


def by(hostname):
    return list(Machine.objects.filter(hostname=hostname))


@pytest.mark.parametrize("status", ["queued", "running", "unknown"])
def test_what_holds_it_under_its_old_name_holds_it(make_job, machines, start, worker, renamed, status):
    start(make_job("1.0"), machines[:1])
    if status != "queued":
        begun = begin(worker)
    if status == "unknown":
        end(worker, begun, "unknown")
    assert MachineRun.objects.get().status == status
    new = renamed()
    with pytest.raises(MachinesHeld) as refused:
        start(make_job("2.0", on=[new]), [new])
    assert refused.value.machines == [new]


def test_once_that_has_ended_it_is_free(make_job, machines, start, finish, renamed):
    start(make_job("1.0"), machines[:1])
    finish()
    new = renamed()
    run = start(make_job("2.0", on=[new]), [new])
    assert state(run) == ("running", 1, {"queued": 1})


def test_the_pages_say_by_what_name_it_is_held(as_user, publisher, make_job, machines, start, worker, renamed):
    run = start(make_job("1.0"), machines[:1])
    begin(worker)
    new = renamed()
    job = make_job("2.0", on=[new])
    client = as_user(publisher)
    response = client.get(page("stage", job))
    assert f"by #{run.stage.job_id} payment 1.0, publisher" in words(response)
    assert "running, as pay-1" in words(response)
    response = client.post(page("stage", job), stage_fields(job, publisher, [new]))
    assert f"new-name is held by #{run.stage.job_id}." in words(response)
    response = client.get(f"/machines/{new.pk}/")
    assert page("machine_run", run.stage.job, machine_run_id=run.machine_runs.get().pk) in source(response)


def test_it_waits_for_its_other_name(as_user, publisher, make_job, machines, start, worker, renamed):
    start(make_job("1.0"), machines[:1])
    begun = begin(worker)
    new = renamed()
    job = make_job("2.0", on=[new])
    fields = stage_fields(job, publisher, [], machines=None, when_free=[new.pk])
    assert as_user(publisher).post(page("stage", job), fields).status_code == 302
    waiting = job.stages.get(kind="pre-release").runs.get().machine_runs.get()
    MachineRun.objects.admit()
    waiting.refresh_from_db()
    assert waiting.status == "held"
    end(worker, begun)
    waiting.refresh_from_db()
    assert waiting.status == "queued"


def test_of_two_names_that_wait_one_gets_it(of_orders, make_job, machines, start, worker, start_when_free):
    """The other goes on waiting, and gets it after that."""
    start(make_job("1.0"), machines[:1])
    begun = begin(worker)
    waiting = [start_when_free(make_job("2.0"), machines[:1]), start_when_free(of_orders, by("ord-9"))]
    end(worker, begun)
    assert [state(run)[2] for run in waiting] == [{"queued": 1}, {"held": 1}]
    end(worker, begin(worker))
    assert [state(run)[2] for run in waiting] == [{"succeeded": 1}, {"queued": 1}]


def test_another_business_that_has_it_by_another_name_holds_it(of_orders, make_job, machines, start):
    start(make_job("1.0"), machines[:1])
    with pytest.raises(MachinesHeld):
        start(of_orders, by("ord-9"))


def test_a_rollback_does_not_go_between(of_orders, publisher, make_job, machines, start, finish):
    run = start(make_job("1.0"), machines[:1])
    finish()
    start(of_orders, by("ord-9"))
    stage = ReleaseStage.objects.get(pk=run.stage_id)
    assert not stage.rollback_candidates()
    with pytest.raises(MachinesHeld):
        stage.roll_back(publisher, machines[:1], "it hurts", "key")


def test_a_machine_of_another_site_has_the_same_address_and_is_another(orders, make_job, machines, start, of_orders):
    Machine.objects.filter(hostname="ord-9").update(site="bj-1")
    of_orders.job_machines.update(site="bj-1")
    start(make_job("1.0"), machines[:1])
    assert state(start(of_orders, by("ord-9"))) == ("running", 1, {"queued": 1})


@pytest.mark.django_db(transaction=True)
def test_two_who_start_it_by_two_names_at_once(of_orders, make_job, machines, start):
    job = make_job("1.0")
    found = at_once(lambda: start(job, machines[:1]), lambda: start(of_orders, by("ord-9")))
    assert sum(isinstance(one, MachinesHeld) for one in found) == 1, found
    assert MachineRun.objects.holding().count() == 1


def test_all_wait_in_the_order_of_hosts(orders, of_orders, requester, machines, make_job, start, start_when_free):
    """Not in that of names or ids, which are others elsewhere: two runs would wait for each other for ever."""
    Listing.objects.take(
        orders, [same_host("ord-9"), MachineRow("ord-10", "10.0.0.2", 22, "", {"site": "sh-1"}, "sh-1")]
    )
    both = [*by("ord-10"), *by("ord-9")]
    of_orders.edit(requester, both)
    of_orders.approve(User.objects.get(username="second"))
    start(make_job("1.0"), machines[:2])
    for job, chosen in ((of_orders, both), (make_job("2.0"), machines[:2])):
        waiting = start_when_free(job, chosen).machine_runs.order_by("pk")
        assert [one.machine.address for one in waiting] == ["10.0.0.1", "10.0.0.2"]
