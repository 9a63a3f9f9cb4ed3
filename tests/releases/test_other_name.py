"""One host under two names - renamed while something runs there, or listed by two businesses - is one machine."""

import pytest
from django.db import IntegrityError, transaction

from deploy_portal.models import User
from jobs.config_service.rows import MachineRow
from jobs.models import Job, Listing, Machine, Membership
from jobs.rights import Role
from releases.candidates import candidates
from releases.models import MachineRun, MachinesHeld, ReleaseStage, StageMoved
from releases.models.machine_run import MachineRunQuerySet
from releases.tidying import move_on
from tests.conftest import make_member, mark_fresh, rows
from tests.pages import page, source, stage_fields, words
from tests.parallel import at_once
from tests.workers import begin, claim, end, state


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


def test_of_several_each_is_said_to_be_held_by_its_own_name(payment, make_job, machines, start):
    start(make_job("1.0"), machines[:2])
    new = [MachineRow(f"new-{n}", f"10.0.0.{n}", 22, "", {"site": "sh-1"}, "sh-1") for n in (1, 2)]
    Listing.objects.take(payment, [*rows("pay-3", "pay-4", "pay-5", "pay-6"), *new])
    told = candidates(make_job("2.0", on=list(Machine.objects.filter(hostname__startswith="new-")))).notes
    assert sorted(note.words[-8:] for note in told.values()) == ["as pay-1", "as pay-2"]


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


def test_who_does_not_see_the_other_business_is_told_that_it_holds_it_and_no_more(
    as_user, publisher, orders, of_orders, make_job, start
):
    start(of_orders, by("ord-9"))
    held, client = page("stage", make_job("2.0")), as_user(publisher)
    assert f"by #{of_orders.pk} orders 9, publisher, since" in words(client.get(held))
    publisher.membership_set.filter(business=orders).delete()
    response = client.get(held)
    assert "by a job of another business, since" in words(response)
    assert "orders" not in source(response)
    assert "ord-9" not in source(response)


@pytest.mark.parametrize("is_unknown", [False, True])
def test_nor_where_a_step_that_names_the_machine_says_why_not(
    as_user, publisher, orders, of_orders, make_job, machines, start, finish, is_unknown
):
    """The number of the other job was told where the machine was posted all the same."""
    job = make_job("2.0")
    start(job, machines[:2])
    finish("failed")
    start(of_orders, by("ord-9"))
    if is_unknown:
        finish("unknown")
    client, stage = as_user(publisher), page("stage", job)
    other = {name: page(name, job) for name in ("excuse_machines", "roll_back_stage")}

    def told():
        posted = client.post(stage, stage_fields(job, publisher, machines[:1]))
        return [words(posted), *(words(client.get(address)) for address in other.values())]

    seen = f"pay-1 is {'unknown in' if is_unknown else 'held by'} #{of_orders.pk}"
    assert [seen in said for said in told()] == [True] * 3
    publisher.membership_set.filter(business=orders).delete()
    hidden = "pay-1 is held by a job of another business."
    assert [(hidden in said, f"#{of_orders.pk}" in said) for said in told()] == [(True, False)] * 3


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


class TestMovedWhileItRuns:
    """Its command stays where it was sent, whatever the config service says of its machine since."""

    @pytest.fixture
    def listed(self, payment):
        """Makes payment's list of pay-3 to pay-6 and `machines`, as {host name: address}."""

        def listed(**machines):
            moved = [
                MachineRow(name.replace("_", "-"), address, 22, "", {"site": "sh-1"}, "sh-1")
                for name, address in machines.items()
            ]
            Listing.objects.take(payment, [*rows(*(f"pay-{number}" for number in range(3, 7))), *moved])
            mark_fresh(payment)

        return listed

    @pytest.fixture
    def running(self, make_job, machines, start, worker):
        run = start(make_job("1.0"), machines[:1])
        return run, begin(worker)

    def test_the_name_that_its_host_has_now_is_held(self, running, make_job, start, listed):
        listed(pay_1="10.0.0.2", pay_2="10.0.0.1")
        with pytest.raises(MachinesHeld) as refused:
            start(make_job("2.0", on=by("pay-2")), by("pay-2"))
        assert refused.value.machines == by("pay-2")

    def test_so_is_its_own_name_wherever_that_is_now(self, running, make_job, start, listed):
        listed(pay_1="10.0.0.99", pay_2="10.0.0.2")
        job = make_job("2.0", on=by("pay-1"))
        assert not ReleaseStage.objects.of_kind(job, "pre-release").offered_machines().exists()
        with pytest.raises(MachinesHeld):
            start(job, by("pay-1"))

    def test_for_its_own_name_one_waits_too(self, running, make_job, worker, listed, start_when_free):
        listed(pay_1="10.0.0.99", pay_2="10.0.0.2")
        waiting = start_when_free(make_job("2.0", on=by("pay-1")), by("pay-1"))
        assert (state(waiting)[2], waiting.machine_runs.get().holder.run) == ({"held": 1}, running[0])
        end(worker, running[1])
        assert state(waiting)[2] == {"queued": 1}

    def test_the_host_that_its_name_has_now_is_free(self, running, make_job, start, listed):
        listed(pay_1="10.0.0.2", pay_9="10.0.0.3")
        Machine.objects.filter(hostname="pay-3").update(address="10.0.0.98")
        assert state(start(make_job("2.0", on=by("pay-9")), by("pay-9"))) == ("running", 1, {"queued": 1})

    def test_what_waits_for_the_host_goes_on_waiting(
        self, running, make_job, machines, worker, listed, start_when_free
    ):
        waiting = start_when_free(make_job("2.0"), machines[:2])
        assert state(waiting)[2] == {"held": 1, "queued": 1}
        listed(pay_1="10.0.0.99", pay_2="10.0.0.2")
        MachineRun.objects.admit()
        assert state(waiting)[2] == {"held": 1, "queued": 1}
        end(worker, running[1])
        assert "It moved before its turn came." in waiting.machine_runs.get(machine=machines[0]).reason

    def test_the_pages_say_who_holds_it(self, running, as_user, publisher, make_job, listed):
        run, _ = running
        listed(pay_1="10.0.0.2", pay_2="10.0.0.1")
        job = make_job("2.0", on=[*by("pay-1"), *by("pay-2")])
        text = words(as_user(publisher).get(page("stage", job)))
        assert text.count(f"by #{run.stage.job_id} payment 1.0, publisher") == 2
        assert "running, as pay-1" in text
        own = words(
            as_user(publisher).get(page("machine_run", run.stage.job, machine_run_id=run.machine_runs.get().pk))
        )
        assert "10.0.0.1" in own

    def test_the_database_refuses_a_second_one_on_its_host(self, running, machines, start, make_job):
        other = start(make_job("2.0"), machines[1:2])
        with pytest.raises(IntegrityError), transaction.atomic():
            other.machine_runs.update(address="10.0.0.1")


def test_two_names_of_one_host_are_not_started_together(make_job, machines, start):
    """As when one of them is listed by another business, too, which gives it this place."""
    job = make_job()
    Machine.objects.filter(hostname="pay-2").update(address="10.0.0.1")
    job.job_machines.filter(machine=machines[1]).update(address="10.0.0.1")
    with pytest.raises(StageMoved, match="the same host now: pay-1, pay-2. Choose one of them."):
        start(job, machines[:3])
    assert not MachineRun.objects.exists()
    assert state(start(job, [machines[0], machines[2]])) == ("running", 1, {"queued": 2})


def test_nor_do_two_names_of_one_host_wait_for_it(make_job, machines, start, start_when_free):
    """Each would get it in turn, and the host the command twice."""
    start(make_job("1.0"), machines[:1])
    job = make_job("2.0")
    Machine.objects.filter(hostname="pay-2").update(address="10.0.0.1")
    job.job_machines.filter(machine=machines[1]).update(address="10.0.0.1")
    with pytest.raises(StageMoved, match="the same host now: pay-1, pay-2. Choose one of them."):
        start_when_free(job, machines[:3])
    assert state(start_when_free(job, machines[1:3]))[2] == {"held": 1, "queued": 1}


class TestRollbackOfWhatMoved:
    @pytest.fixture
    def back(self, job, machines, start, finish, publisher):
        """A rollback of pay-1 that is queued."""
        run = start(job, machines[:1])
        finish()
        return ReleaseStage.objects.get(pk=run.stage_id).roll_back(publisher, machines[:1], "it hurts", "key")

    def move(self, address):
        Machine.objects.filter(hostname="pay-1").update(address=address)

    def test_it_is_sent_nowhere_when_it_moves_after_it_was_claimed(self, back, worker):
        claimed = claim(worker)
        self.move("10.0.0.77")
        assert MachineRun.objects.begin(worker, claimed) == set()
        end(worker, [])
        assert begin(worker) == claimed
        assert back.machine_runs.get().address == "10.0.0.77"

    def test_it_follows_in_a_pause_too(self, back, publisher, worker):
        back.pause(publisher)
        self.move("10.0.0.77")
        end(worker, [])
        assert back.machine_runs.get().address == "10.0.0.77"

    def test_it_does_not_go_to_a_host_that_is_held(self, back, make_job, machines, start, worker):
        other = start(make_job("3.0"), machines[1:2])
        self.move("10.0.0.2")
        end(worker, [])
        machine_run = back.machine_runs.get()
        assert (machine_run.status, machine_run.address) == ("not_run", "10.0.0.1")
        assert (
            machine_run.reason == "It moved, to a host that another run holds. Roll it back again once that has ended."
        )
        assert state(other) == ("running", 1, {"queued": 1})

    def test_those_of_one_rollback_take_each_others_place(self, job, machines, start, finish, publisher, worker):
        run = start(job, machines[:3])
        finish()
        back = ReleaseStage.objects.get(pk=run.stage_id).roll_back(publisher, machines[:3], "it hurts", "key")
        places = ["10.0.0.2", "10.0.0.3", "10.0.0.1"]
        for machine, address in zip(machines, places, strict=False):
            Machine.objects.filter(pk=machine.pk).update(address=address)
        end(worker, [])
        assert state(back) == ("running", 1, {"queued": 3})
        assert list(back.machine_runs.order_by("pk").values_list("address", flat=True)) == places

    def test_what_is_cancelled_just_then_stays_cancelled(self, back, publisher, monkeypatch):
        """Between the look at what moved and the lock."""
        lock = MachineRunQuerySet.lock

        def lock_late(machine_runs):
            monkeypatch.setattr(MachineRunQuerySet, "lock", lock)
            back.cancel(publisher)
            lock(machine_runs)

        self.move("10.0.0.77")
        monkeypatch.setattr(MachineRunQuerySet, "lock", lock_late)
        move_on()
        assert state(back) == ("cancelled", 1, {"cancelled": 1})
        assert back.machine_runs.get().address == "10.0.0.1"

    def test_it_can_be_rolled_back_again_then(self, back, make_job, machines, start, worker, publisher):
        start(make_job("3.0"), machines[1:2])
        self.move("10.0.0.2")
        end(worker, [])
        stage = ReleaseStage.objects.get(pk=back.stage_id)
        assert not stage.rollback_candidates()
        end(worker, begin(worker))
        [candidate] = stage.rollback_candidates()
        assert candidate.rollback_versions == ("2.0", "")
        again = stage.roll_back(publisher, machines[:1], "it still hurts", "again")
        assert again.machine_runs.get().address == "10.0.0.2"


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
