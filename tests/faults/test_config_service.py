"""The config service goes bad under a release that is running, and machines leave it."""

import re
from contextlib import contextmanager

import pytest

from jobs.models import Business, Machine
from releases.demo.fleet import ADDRESS
from releases.models import Run
from tests.config_service import Answer, ConfigServiceDouble
from tests.faults.conftest import TELL, UNTIL_GO
from tests.faults.seen import ended, is_so, statuses
from tests.pages import ids, offered, page, stage_fields, words

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = [f"pay-{number}" for number in range(1, 7)]


@pytest.fixture
def service(payment, fleet):
    """What gives payment its machines: those of the fleet, until told otherwise."""
    with ConfigServiceDouble({"machines": rows(fleet)}) as service:
        options = {"url": service.url()}
        Business.objects.filter(pk=payment.pk).update(source="http_json", source_options=options)
        payment.refresh_from_db()
        yield service


@pytest.fixture
def machines(payment, service):
    payment.sync_machines()
    return list(Machine.objects.order_by("hostname"))


def rows(fleet, names=NAMES):
    return [{"hostname": name, "address": ADDRESS, "port": fleet.ports[name], "user": "deploy"} for name in names]


def hangs(handler):
    handler.service.gone.wait(30)


def breaks_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b'{"machines": [{"hostname": "pay-1"')


@contextmanager
def asked_anew():
    """The next page asks the config service again."""
    Business.objects.update(asked_at=None)
    yield
    assert Business.objects.exclude(asked_at=None).exists()


@pytest.mark.fleet(*NAMES)
def test_a_bad_config_service(worker, release, fleet, machines, service, payment, publisher, as_user, settings):
    """Each bad answer leaves the list as it was, with its age and the reason, and the run untouched."""
    worker()
    run = release(TELL + UNTIL_GO, batch_size=3)
    is_so(run, pay_1="running", pay_2="running", pay_3="running")
    client = as_user(publisher)
    bad = {
        "down": Answer(b"", status=503),
        "slow": hangs,
        "redirects": Answer(b"", status=302, headers={"Location": "http://127.0.0.1:9/"}),
        "garbage": Answer(b"<html>Welcome</html>"),
        "half a list": breaks_off,
        "a third gone": Answer({"machines": rows(fleet, NAMES[:4])}),
        "all gone": Answer({"machines": []}),
    }
    reasons = set()
    for name, answer in bad.items():
        service.answers = [answer]
        settings.CONFIG_SERVICE_TIMEOUT = 1 if name == "slow" else 120
        with asked_anew():
            shown = words(client.get(page("stage", run.stage.job)))
        payment.refresh_from_db()
        assert payment.sync_error, name
        assert re.search(rf"old, from [-:\d ]+\. {re.escape(payment.sync_error)}", shown), name
        assert list(Machine.objects.live_in(payment).order_by("hostname")) == machines, name
        reasons.add(payment.sync_error)
    assert len(reasons) >= 5
    fleet.let_go()
    assert ended(run).status == Run.Status.SUCCEEDED
    assert set(statuses(run).values()) == {"succeeded"}
    assert (fleet.logins, fleet.commands) == (6, 6)


@pytest.mark.fleet(*NAMES)
def test_a_machine_that_left(
    worker, make_job, fleet, machines, service, publisher, as_user, release_task, rollback_task
):
    """Shown as gone and refused, also by a page that was loaded before it left; nobody logs in anywhere."""
    assert worker().row
    job = make_job()
    client = as_user(publisher)
    fields = stage_fields(job, publisher, machines)
    service.give(rows(fleet, NAMES[:5]))
    with asked_anew():
        refused = client.post(page("stage", job), fields)
    assert "pay-6 is gone from the config service." in words(refused)
    shown = client.get(page("stage", job))
    assert "pay-6" in words(shown) and "Gone from the config service, since" in words(shown)
    assert offered(shown) == set(ids(machines[:5]))
    assert not Run.objects.exists()
    assert fleet.logins == 0
    assert client.post(page("stage", job), fields | {"machines": ids(machines[:5])}).status_code == 302
    assert ended(Run.objects.get()).status == Run.Status.SUCCEEDED
    assert fleet.logins == 5
