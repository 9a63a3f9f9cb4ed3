"""The switch of ops: stops everything, tells everybody, and ends the stop."""

import pytest
from django.urls import reverse

from jobs.models import Freeze
from tests.pages import came_too_late, is_sent_to_login, page, source, words

STOP, RESUME = reverse("stop_world"), reverse("resume_world")
SMOKE = {"reason": "smoke in sh-1", "confirmed": "on"}


def test_it_asks_who_you_are(client, db):
    assert is_sent_to_login(client.get(STOP), STOP)
    assert is_sent_to_login(client.post(STOP, SMOKE), STOP)
    assert is_sent_to_login(client.post(RESUME, SMOKE), RESUME)


@pytest.mark.parametrize("person", ["requester", "publisher", "approver", "outsider"])
def test_it_is_for_ops(as_user, request, person):
    client = as_user(request.getfixturevalue(person))
    for response in (client.get(STOP), client.post(STOP, SMOKE), client.post(RESUME, SMOKE)):
        assert response.status_code == 403
        assert "This switch is for ops." in words(response)
    assert "Stop everything" not in words(client.get(reverse("home")))
    assert not Freeze.objects.exists()


def test_to_look_changes_nothing(as_user, ops):
    response = as_user(ops).get(STOP, SMOKE)
    assert response.status_code == 200
    assert as_user(ops).get(RESUME).status_code == 405
    assert not Freeze.objects.exists()


def test_it_stops_and_ends(as_user, ops):
    client = as_user(ops)
    assert "Stopped: no release begins" in words(client.post(STOP, SMOKE, follow=True))
    assert Freeze.objects.stop().made_by == ops
    said = words(client.post(RESUME, {"reason": "it was toast"}, follow=True))
    assert "The stop is ended" in said
    assert "it was toast" in said.split("Lately")[1]
    assert Freeze.objects.stop() is None


@pytest.mark.parametrize("missing", ["reason", "confirmed"])
def test_without_a_reason_or_the_box_nothing_happens(as_user, ops, missing):
    response = as_user(ops).post(STOP, SMOKE | {missing: ""} if missing == "reason" else {"reason": SMOKE["reason"]})
    assert "This field is required." in words(response)
    assert ("smoke in sh-1" in source(response)) == (missing == "confirmed")
    assert not Freeze.objects.exists()


@pytest.mark.one_database
@pytest.mark.parametrize("reason", ["", "\x1b[2J", "a\u202eb", "two\nlines", "x" * 201])
def test_a_bad_reason_is_refused_and_kept(as_user, ops, reason):
    response = as_user(ops).post(STOP, SMOKE | {"reason": reason})
    assert response.status_code == 200
    assert not Freeze.objects.exists()
    stop = Freeze.objects.stop_world(ops, "smoke")
    assert as_user(ops).post(RESUME, {"reason": reason}).status_code == 200
    assert Freeze.objects.stop() == stop


def test_twice_is_once(as_user, ops):
    client = as_user(ops)
    client.post(STOP, SMOKE)
    response = client.post(STOP, SMOKE | {"reason": "fire"})
    assert "Everything is stopped already." in words(response)
    assert came_too_late(response, "fire")
    client.post(RESUME, {"reason": "over"})
    response = client.post(RESUME, {"reason": "over"})
    assert "There is no stop to end." in words(response)
    assert came_too_late(response, "over")
    assert Freeze.objects.get().reason == "smoke in sh-1"


@pytest.mark.one_database
@pytest.mark.parametrize("person", ["requester", "outsider", "ops"])
def test_everybody_is_told_on_every_page(as_user, request, ops, person, job):
    Freeze.objects.stop_world(ops, "<b>smoke</b>")
    client = as_user(request.getfixturevalue(person))
    addresses = [reverse("home"), reverse("jobs"), reverse("machines"), "/jobs/77777/"]
    for address in [*addresses, *([reverse("admin:index"), page("job", job)] if person == "ops" else [])]:
        response = client.get(address)
        assert "Everything is stopped since" in words(response)
        assert "by ops: &lt;b&gt;smoke&lt;/b&gt;" in response.text
        assert ("End the stop…" in words(response)) == (person == "ops")


def test_who_is_not_logged_in_is_not(client, ops):
    Freeze.objects.stop_world(ops, "smoke")
    assert "smoke" not in client.get(reverse("login")).text
