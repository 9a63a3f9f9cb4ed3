"""The page of one machine, and the list of a business's machines."""

import pytest
from django.urls import reverse

from jobs.models import Job, Machine
from tests.conftest import list_machines, make_user
from tests.pages import is_sent_to_login, words

LIST = reverse("machines")


def page(machine):
    return reverse("machine", args=[machine.pk])


class TestOne:
    def test_it_says_what_is_on_it_and_who_put_it_there(self, as_user, publisher, job, machines, start, finish):
        start(job, machines[:1])
        finish()
        said = words(as_user(publisher).get(page(machines[0])))
        assert f"#{job.pk} payment 2.0" in said
        assert "Now on 2.0" in said
        assert "– → 2.0" in said
        assert "Held" not in said

    @pytest.mark.parametrize(
        ("status", "told"), [("failed", "failed"), ("timed_out", "timed out"), ("unknown", "unknown")]
    )
    def test_what_a_run_that_did_not_succeed_left_there_is_not_known(
        self, as_user, publisher, make_job, machines, start, finish, status, told
    ):
        for version, ended in (("2.0", "succeeded"), ("2.1", status)):
            start(make_job(version), machines[:2])
            finish(ended, on=["pay-1"])
        client = as_user(publisher)
        said = words(client.get(page(machines[0])))
        assert f"Now on 2.0 last seen; since then: {told} First seen" in said
        assert ("Held since" in said) == (status == "unknown")
        assert "Now on 2.1 First seen" in words(client.get(page(machines[1])))

    def test_what_was_never_sent_there_leaves_no_doubt(self, as_user, publisher, make_job, machines, start, finish):
        start(make_job("2.0"), machines[:2])
        finish()
        start(make_job("2.1"), machines[:3], batch_size=1)
        finish("failed", on=["pay-1"])
        assert "Now on 2.0 First seen" in words(as_user(publisher).get(page(machines[1])))
        assert "Now on – First seen" in words(as_user(publisher).get(page(machines[2])))

    @pytest.mark.parametrize(
        ("address", "told"), [("10.0.0.1", "10.0.0.1:2222"), ("2001:db8::1", "[2001:db8::1]:2222")]
    )
    def test_it_says_where_it_is(self, as_user, publisher, machines, address, told):
        Machine.objects.filter(pk=machines[0].pk).update(address=address, port=2222)
        assert f" {told} · sh-1" in words(as_user(publisher).get(page(machines[0])))

    def test_a_label_may_be_named_like_what_every_dict_has(self, as_user, publisher, machines):
        labels = {"items": "seven", "rack": "r-1"}
        Machine.objects.filter(pk=machines[0].pk).update(labels=labels)
        said = words(as_user(publisher).get(page(machines[0])))
        assert "items seven rack r-1" in said

    def test_a_rollback_is_told_as_one(self, as_user, publisher, job, machines, start, finish):
        run = start(job, machines[:1])
        finish()
        run.stage.refresh_from_db()
        run.stage.roll_back(publisher, machines[:1], "it hurts", "key")
        finish()
        said = words(as_user(publisher).get(page(machines[0])))
        assert "Rolled back" in said
        assert "Now on –" in said

    def test_it_says_who_holds_it(self, as_user, publisher, job, machines, start):
        start(job, machines[:1])
        said = words(as_user(publisher).get(page(machines[0])))
        assert "Held since" in said
        assert f"#{job.pk} payment 2.0 · Pre-release" in said
        assert "Held since" not in words(as_user(publisher).get(page(machines[1])))

    def test_of_another_business_only_that_it_holds_it_is_told(
        self, as_user, outsider, job, payment, orders, machines, start, finish
    ):
        list_machines(orders, "pay-1")
        Job(business=orders, title="Theirs", version="1.0").ask(outsider, machines[:1])
        start(job, machines[:1])
        client = as_user(outsider)
        said = words(client.get(page(machines[0])))
        assert "Held since" in said
        assert "By a job of another business." in said
        assert "payment" not in said.lower()
        assert "No job that you can see has run on it yet." in said
        finish()
        assert "No job that you can see has run on it yet." in words(client.get(page(machines[0])))

    def test_one_that_two_businesses_share_is_told_of_for_each(
        self, as_user, ops, make_job, orders, machines, start, finish
    ):
        list_machines(orders, "pay-1")
        for version, ended in (("2.0", "succeeded"), ("2.1", "failed")):
            start(make_job(version), machines[:1])
            finish(ended)
        said = words(as_user(ops).get(page(machines[0])))
        assert "Payment Live Now on 2.0 last seen; since then: failed" in said
        assert "Orders Live Now on – First seen" in said

    def test_one_that_is_gone_is_told_so(self, as_user, publisher, payment, machines):
        list_machines(payment, *(machine.hostname for machine in machines[1:]))
        assert "Gone" in words(as_user(publisher).get(page(machines[0])))

    def test_labels_are_inert(self, as_user, publisher, machines):
        machines[0].labels = {"rack": "<b>\u202ex"}
        machines[0].save()
        response = as_user(publisher).get(page(machines[0]))
        assert "&lt;b&gt;⟨U+202E⟩x" in response.text

    def test_a_stranger_sees_nothing(self, as_user, outsider, machines):
        assert as_user(outsider).get(page(machines[0])).status_code == 404

    def test_anonymous_is_sent_to_log_in(self, client, machines):
        assert is_sent_to_login(client.get(page(machines[0])), page(machines[0]))

    @pytest.mark.parametrize("address", ["/machines/0/", "/machines/01/", "/machines/999/", f"/machines/{'9' * 23}/"])
    def test_what_is_not_there_is_not_found(self, as_user, publisher, machines, address):
        assert as_user(publisher).get(address).status_code == 404

    def test_only_looking_is_possible(self, as_user, publisher, machines):
        assert as_user(publisher).post(page(machines[0])).status_code == 405


class TestList:
    def test_the_machines_of_a_business_and_what_is_on_them(self, as_user, publisher, job, machines, start, finish):
        start(job, machines[:1])
        finish()
        said = words(as_user(publisher).get(LIST))
        assert "pay-1 10.0.0.1 sh-1 2.0 pay-2 10.0.0.2 sh-1 –" in said
        assert "6 machines" in said

    @pytest.mark.parametrize(
        ("search", "found"),
        [("AY-3", {"pay-3"}), ("10.0.0.5", {"pay-5"}), ("SH-1", None), ("zz", set()), ("%", set()), ("\0", None)],
    )
    def test_they_are_found_by_name_address_and_site(self, as_user, publisher, machines, search, found):
        said = words(as_user(publisher).get(LIST, {"q": search}))
        names = {machine.hostname for machine in machines}
        assert {name for name in names if f"{name} " in said} == (names if found is None else found)

    def test_a_business_can_be_chosen_among_ones_own(self, as_user, ops, payment, orders, machines):
        list_machines(orders, "ord-1")
        client = as_user(ops)
        assert "ord-1" in words(client.get(LIST, {"business": "orders"}))
        assert "ord-1" not in words(client.get(LIST, {"business": "payment"}))

    @pytest.mark.parametrize("query", [{"business": "orders"}, {"business": "\0"}, {"page": "-1"}, {"page": "x"}])
    def test_what_is_not_there_is_not_found(self, as_user, publisher, machines, orders, query):
        assert as_user(publisher).get(LIST, query).status_code == 404

    def test_who_is_in_no_business_sees_no_machine(self, as_user, machines):
        response = as_user(
            make_user("new"),
        ).get(LIST)
        assert response.status_code == 200
        assert "pay-1" not in response.text

    def test_anonymous_is_sent_to_log_in(self, client, db):
        assert is_sent_to_login(client.get(LIST), LIST)

    def test_its_pages_are_told_as_what_they_are(self, as_user, publisher, payment):
        """Machines stand by their names: none is newer or older than another."""
        list_machines(payment, *(f"web-{number:03}" for number in range(101)))
        said = words(as_user(publisher).get(LIST))
        assert "Page 1 of 2 Later machines" in said
        assert "Older" not in said
