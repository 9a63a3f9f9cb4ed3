"""Pages with a list too long for one table: pages of it without scripts, and ten thousand machines by one field."""

import gzip
import json
import re
from itertools import accumulate

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from jobs.fields import in_short
from jobs.models import Job, Listing, Machine
from releases.models import MachineRun, Run
from tests.conftest import list_machines, mark_fresh, rows
from tests.databases import few_parameters
from tests.pages import checked, ids, offered, page, stage_fields, token_in, words

pytestmark = pytest.mark.usefixtures("release_task", "rollback_task")

NEW = reverse("new_job")


@pytest.fixture
def many(payment):
    """250 machines of payment: three pages of them."""
    return list_machines(payment, *(f"web-{n:03}" for n in range(250)))


@pytest.fixture
def long_job(make_job, many):
    return make_job(on=many)


def hidden(response, name):
    """The values of the hidden fields of this name."""
    return re.findall(rf'<input type="hidden" name="{name}" value="([^"]*)"', response.content.decode())


def data_in(text):
    return json.loads(re.search(r'id="machines-data" type="application/json">(.*?)</script>', text)[1])


class TestStagePage:
    def test_the_first_rows_are_a_table_and_all_of_them_data(self, as_user, publisher, long_job, many):
        response = as_user(publisher).get(page("stage", long_job))
        assert offered(response) == set(ids(many[:100]))
        assert data_in(response.content.decode())["hostnames"] == [machine.hostname for machine in many]
        assert "1–100 of 250" in words(response)

    def test_the_keyboard_gets_past_the_list(self, as_user, publisher, long_job, make_job, many):
        text = as_user(publisher).get(page("stage", long_job)).content.decode()
        assert text.index('href="#picked"') < text.index("<tbody>") < text.index('id="picked"')
        assert "#picked" not in as_user(publisher).get(page("stage", make_job(on=many[:5]))).content.decode()

    def test_other_pages_keep_what_was_chosen_and_typed(self, as_user, publisher, long_job, many):
        client, address = as_user(publisher), page("stage", long_job)
        fields = stage_fields(long_job, publisher, [many[0], many[3]], remark="as typed", batch_size="7")
        second = client.post(address, fields | {"list": "2"})
        assert offered(second) == set(ids(many[100:200]))
        assert "as typed" in second.content.decode() and 'value="7"' in second.content.decode()
        carried = hidden(second, "machines")
        assert carried == [in_short(ids([many[0], many[3]]))]
        third = client.post(address, fields | {"machines": [*carried, many[150].pk], "list": "3"})
        assert hidden(third, "machines") == [in_short(ids([many[0], many[3], many[150]]))]
        back = client.post(address, fields | {"machines": hidden(third, "machines"), "list": "1"})
        assert checked(back) == set(ids([many[0], many[3]]))

    def test_what_was_chosen_on_all_pages_is_started(self, as_user, publisher, long_job, many):
        client, address = as_user(publisher), page("stage", long_job)
        fields = stage_fields(long_job, publisher, [many[0]])
        last = client.post(address, fields | {"list": "3"})
        chosen = [*hidden(last, "machines"), many[249].pk]
        client.post(address, fields | {"token": token_in(last), "machines": chosen})
        runs = MachineRun.objects.in_job(long_job)
        assert set(runs.values_list("machine", flat=True)) == {many[0].pk, many[249].pk}

    def test_another_page_is_no_submit_and_complains_of_nothing(self, as_user, publisher, long_job):
        fields = stage_fields(long_job, publisher, [], batch_size="many", token="none")
        response = as_user(publisher).post(page("stage", long_job), fields | {"list": "2"})
        assert response.status_code == 200
        assert 'value="many"' in response.content.decode()
        assert "errorlist" not in response.content.decode()
        assert not Run.objects.exists()

    def test_another_page_is_for_publishers_only(self, as_user, requester, long_job):
        assert as_user(requester).post(page("stage", long_job), {"list": "2"}).status_code == 403

    def test_waiting_machines_are_kept_from_page_to_page(self, as_user, publisher, make_job, long_job, start, many):
        start(long_job, [many[220]])
        other = make_job("3.0", on=many)
        fields = stage_fields(other, publisher, [], when_free=[many[220].pk])
        first = as_user(publisher).post(page("stage", other), fields | {"list": "1"})
        assert hidden(first, "when_free") == [str(many[220].pk)]
        last = as_user(publisher).post(page("stage", other), fields | {"list": "3"})
        box = rf'name="when_free" value="{many[220].pk}" checked'
        assert re.search(box, last.content.decode())
        assert not hidden(last, "when_free")


class TestOtherPages:
    def test_a_job_form_has_pages_too(self, as_user, requester, payment, many):
        client = as_user(requester)
        fields = {"title": "All of it", "business": payment.pk, "version": "3.0", "machines": ids(many[:2])}
        second = client.post(NEW, fields | {"list": "2"})
        assert offered(second) == set(ids(many[100:200]))
        assert 'value="All of it"' in second.content.decode()
        assert not Job.objects.exists()
        client.post(NEW, fields | {"machines": [*hidden(second, "machines"), many[120].pk]})
        assert set(Job.objects.get().machines.all()) == {many[0], many[1], many[120]}

    def test_enter_in_a_field_turns_no_page(self, as_user, requester, publisher, payment, long_job):
        """It presses the first button of the form."""
        for user, address, sends in (
            (requester, NEW, ""),
            (publisher, page("stage", long_job), ' name="step" value="check"'),
        ):
            form = as_user(user).get(address).text.partition("data-keep")[2]
            buttons = re.findall(r'<button(?![^>]*type="button")([^>]*)>', form)
            assert f'class="unseen" tabindex="-1" aria-hidden="true"{sends}' in buttons[0]
            assert 'name="list"' in buttons[1]

    def test_an_edit_keeps_its_revision_from_page_to_page(self, as_user, requester, make_job, many):
        job = make_job(on=many[:150], approved=False)
        address = page("edit_job", job)
        response = as_user(requester).get(address)
        assert hidden(response, "machines") == [in_short(ids(many[100:150]))]
        fields = {"title": "Less", "version": "2.0", "revision": job.revision, "machines": ids(many[100:150])}
        as_user(requester).post(address, fields | {"list": "2"})
        assert job.machines.count() == 150
        as_user(requester).post(address, fields)
        assert set(job.machines.all()) == set(many[100:150])

    def test_machines_to_excuse_have_pages_too(self, as_user, publisher, long_job, start, finish, many):
        start(long_job, [many[249]])
        finish("failed")
        client, address = as_user(publisher), page("excuse_machines", long_job)
        fields = {"machines": [many[249].pk], "reason": "in repair"}
        second = client.post(address, fields | {"list": "2"})
        assert hidden(second, "machines") == [str(many[249].pk)]
        assert ">\nin repair</textarea>" in second.content.decode()
        assert not long_job.job_machines.exclude(excused_at=None).exists()

    @pytest.mark.parametrize("name", ["roll_back_stage", "roll_back_job"])
    def test_machines_to_roll_back_have_pages_too(self, as_user, publisher, long_job, start, finish, many, name):
        start(long_job, many)
        finish()
        client, address = as_user(publisher), page(name, long_job)
        first = client.get(address)
        assert offered(first) == checked(first) == set(ids(many[:100]))
        assert hidden(first, "machines") == [in_short(ids(many[100:]))]
        assert data_in(first.content.decode())["hostnames"] == [machine.hostname for machine in many]
        fields = {"token": token_in(first), "machines": hidden(first, "machines"), "reason": "it is broken"}
        second = client.post(address, fields | {"list": "2"})
        assert ">\nit is broken</textarea>" in second.content.decode()
        assert "errorlist" not in client.post(address, {"list": "2"}).content.decode()
        assert not Run.objects.filter(action="rollback")
        chosen = [*hidden(second, "machines"), many[100].pk]
        assert client.post(address, fields | {"machines": chosen}).status_code == 302
        runs = MachineRun.objects.filter(run__action="rollback")
        assert set(runs.values_list("machine", flat=True)) == set(ids(many[200:])) | {many[100].pk}


class TestQueries:
    """However many machines there are, held, gone and moved ones too, a page asks as often."""

    @pytest.fixture
    def asked(self, as_user, payment, make_job, start, finish, requester, publisher):
        """How often each list page asks the database for a job of so many machines."""

        def asked(number):
            machines = list_machines(payment, *(f"web-{number}-{n}" for n in range(number)))
            released = make_job(on=machines)
            start(released, machines)
            finish()
            start(make_job(on=machines), machines[::3])
            job = make_job("3.0", on=machines, plan_pre_release="50 %")
            Listing.objects.filter(machine__in=machines[1::4]).update(gone_at=Now())
            Machine.objects.filter(pk__in=ids(machines[2::4])).update(port=2222)
            fields = stage_fields(
                job, publisher, [], machines=None, when_free=in_short(ids(machines[::12])), step="check"
            )
            stage, typed = page("stage", job), {"batch_size": "many"}
            return [
                self.count(as_user(publisher).get, stage),
                self.count(as_user(publisher).post, stage, fields),
                self.count(as_user(publisher).post, stage, fields | typed),
                self.count(as_user(publisher).get, page("job", job)),
                self.count(as_user(publisher).get, page("roll_back_job", released)),
                self.count(as_user(requester).get, page("edit_job", job)),
                self.count(as_user(requester).get, NEW),
            ]

        return asked

    def count(self, ask, *args):
        with CaptureQueriesContext(connection) as captured:
            assert ask(*args).status_code == 200
        return len(captured)

    def test_many_machines_are_asked_for_as_often_as_few(self, asked):
        assert asked(24) == asked(240)


@pytest.fixture
def ten_thousand(payment, make_job):
    """A job for 10,000 machines."""
    row = rows("x")[0]
    Listing.objects.take(
        payment,
        [
            type(row)(f"web-{n:05}.sh-1", f"10.1.{n // 250}.{n % 250 + 1}", 22, "", {"rack": f"r{n // 40}"}, "sh-1")
            for n in range(10_000)
        ],
    )
    mark_fresh(payment)
    return make_job(on=list(payment.machines.filter(listings__gone_at=None)))


def test_ten_thousand_machines_are_listed_checked_and_started_by_one_field(as_user, publisher, ten_thousand):
    client, address = as_user(publisher), page("stage", ten_thousand)
    shown = client.get(address, headers={"accept-encoding": "gzip"})
    assert shown.headers["Content-Encoding"] == "gzip"
    assert len(shown.content) < 100_000
    data = data_in(gzip.decompress(shown.content).decode())
    assert len(data["hostnames"]) == 10_000
    chosen = list(accumulate(data["ids"]))
    fields = stage_fields(ten_thousand, publisher, [], machines=in_short(chosen), typed_count="10000")
    with few_parameters():
        check = client.post(address, fields | {"step": "check"})
        assert "goes to 10000 machines" in words(check)
        assert hidden(check, "machines") == [in_short(chosen)]
        assert client.post(address, fields).status_code == 302
    assert MachineRun.objects.in_job(ten_thousand).count() == 10_000


def test_what_has_a_tile_for_each_machine_travels_packed(as_user, publisher, long_job, start, many, case):
    """The live part above all: it comes again every few seconds, to everybody who watches."""
    start(long_job, many)
    for name in ("stage", "stage_live", "job"):
        with case(name):
            shown = as_user(publisher).get(page(name, long_job), headers={"accept-encoding": "gzip"})
            assert gzip.decompress(shown.content).count(b'id="tile-') == len(many)
            assert len(shown.content) < 10_000


def test_a_poll_reads_its_machines_as_rows(as_user, publisher, long_job, start, many, monkeypatch):
    """Whole instances of them were most of what it cost."""
    start(long_job, many)
    for model in (Machine, MachineRun):
        monkeypatch.setattr(model, "from_db", lambda *_row: pytest.fail("made whole"))
    assert as_user(publisher).get(page("stage_live", long_job)).status_code == 200


@pytest.mark.one_database
def test_a_small_tile_says_what_it_stands_for_and_leads_to_its_log(as_user, publisher, long_job, start, finish, many):
    run = start(long_job, many[:249], failure_budget="")
    # No config service could list it; what is drawn without a template is escaped all the same.
    Machine.objects.filter(pk=many[0].pk).update(hostname="<b>&'\"x9")
    finish("failed", on=["web-007"])
    hostile, failed = (run.machine_runs.get(machine=many[n]) for n in (0, 7))
    text = as_user(publisher).get(page("job", long_job)).content.decode()
    name = "&lt;b&gt;&amp;&#x27;&quot;x9: Succeeded"
    log = f"/jobs/{long_job.pk}/machine-runs"
    tile = '<a class="tile {}" id="tile-{}"{} title="{}" aria-label="{}">{}</a>'
    assert tile.format("succeeded", many[0].pk, f' href="{log}/{hostile.pk}/"', name, name, "9") in text
    name = "web-007: Failed"
    assert tile.format("failed", many[7].pk, f' href="{log}/{failed.pk}/"', name, name, "007") in text
    name = "web-249: Waiting"
    assert tile.format("waiting", many[249].pk, "", name, name, "249") in text


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("hostnames", "shown"),
    [
        (["cache-{:03}", "pay-web-1{:02}"], ["000", "129"]),
        (["cache-{:03}", "pay-web-{:03}"], ["cache-000", "pay-web-029"]),
        (["cache-{:03}.sh.example.com", "pay-web-1{:02}.sh.example.com"], ["000", "129"]),
        (["10.0.0.{}", "10.0.0.1{:02}"], ["0", "129"]),
        (["web-{:03}.a.example.com", "web-{:03}.b.example.com"], ["web-000.a.example.com", "web-029.b.example.com"]),
        (["a-{:03}-x", "b-{:03}-y"], ["00-x", "29-y"]),
    ],
)
def test_the_name_on_a_small_tile_is_that_of_no_other(as_user, publisher, make_job, payment, hostnames, shown):
    machines = list_machines(payment, *(name.format(n) for name in hostnames for n in range(30)))
    text = as_user(publisher).get(page("job", make_job(on=machines))).content.decode()
    names = re.findall(r'<a class="tile [^>]*>([^<]*)</a>', text)
    assert len(set(names)) == 60
    assert {*shown} <= {*names}


@pytest.mark.one_database
def test_where_one_site_needs_whole_names_all_have_them(as_user, publisher, make_job, payment):
    alike = rows(*(f"{what}-{number:02}" for what in ("cache", "web") for number in range(20)), site="sh-1")
    Listing.objects.take(payment, [*alike, *rows("db-1", site="bj-1")])
    mark_fresh(payment)
    text = as_user(publisher).get(page("job", make_job(on=Machine.objects.all()))).content.decode()
    assert ">db-1</a>" in text
    assert '<div class="sites t-300 whole">' in text


@pytest.fixture
def hosts(payment):
    """1,200 machines of payment: more than a query has parameters."""
    return list_machines(payment, *(f"web-{n:04}" for n in range(1200)))


@pytest.mark.one_database
def test_a_job_has_more_machines_than_a_query_has_parameters(as_user, requester, payment, hosts):
    client = as_user(requester)
    fields = {"title": "All of it", "business": payment.pk, "version": "3.0", "plan_pre_release": "50 %"}
    with few_parameters():
        client.post(NEW, fields | {"machines": in_short(ids(hosts))})
        job = Job.objects.get()
        assert job.machines.count() == 1200
        assert client.get(page("edit_job", job)).status_code == 200
        client.post(page("edit_job", job), fields | {"machines": in_short(ids(hosts[:1100])), "revision": 1})
        assert client.post(NEW, fields | {"machines": in_short([*ids(hosts), 10**6])}).status_code == 200
    assert set(job.machines.all()) == set(hosts[:1100])


@pytest.mark.one_database
def test_more_machines_are_excused_than_a_query_has_parameters(as_user, publisher, make_job, hosts, start):
    job = make_job(on=hosts)
    start(job, hosts[:1]).cancel(publisher)
    client, address = as_user(publisher), page("excuse_machines", job)
    with few_parameters():
        assert client.get(address).status_code == 200
        assert client.post(address, {"machines": in_short(ids(hosts)), "reason": "in repair"}).status_code == 302
    assert job.job_machines.exclude(excused_at=None).count() == 1200


@pytest.mark.one_database
def test_more_machines_are_rolled_back_than_a_query_has_parameters(
    as_user, publisher, make_job, hosts, start, finish, payment
):
    job = make_job(on=hosts)
    start(job, hosts)
    finish()
    list_machines(payment, *(machine.hostname for machine in hosts[1:]))
    client, address = as_user(publisher), page("roll_back_stage", job)
    with few_parameters():
        shown = client.get(address)
        assert "1 more machine carries a change of this job" in words(shown)
        fields = {"token": token_in(shown), "machines": in_short(ids(hosts[1:])), "reason": "broken"}
        assert client.post(address, fields).status_code == 302
    assert MachineRun.objects.in_job(job).filter(run__action="rollback").count() == 1199


@pytest.mark.one_database
def test_more_machines_have_moved_and_were_planned_than_a_query_has_parameters(
    as_user, publisher, make_job, hosts, payment
):
    job = make_job(on=hosts, plan_pre_release="100 %")
    payment.machines.update(port=2222)
    fields = stage_fields(job, publisher, [], machines=None, moved=in_short(ids(hosts[:1000])), typed_count="1000")
    with few_parameters():
        check = as_user(publisher).post(page("stage", job), fields | {"step": "check"})
        assert "Departs from the plan" in words(check)
        assert as_user(publisher).post(page("stage", job), fields).status_code == 302
    assert MachineRun.objects.in_job(job).count() == 1000
    assert job.job_machines.moved().count() == 200
