import encodings
import io
import re
import secrets
import sqlite3
import time
from html import escape

import pytest
from django.db import Error, IntegrityError, InterfaceError, OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.http import HttpResponse
from django.test import Client
from django.urls import include, path, reverse

from deploy_portal.database import is_away
from deploy_portal.urls import handler500  # noqa: F401, which Django looks for beside the addresses
from jobs.models import Business, Event
from tests.databases import read_only, stood_still
from tests.pages import words


def fill_session(request):
    # Random: the session is compressed before it is measured.
    request.session["text"] = secrets.token_hex(int(request.GET["bytes"]) // 2)
    return HttpResponse("kept")


LOST = {
    "operational": OperationalError("database is locked"),
    "interface": InterfaceError("connection is closed"),
    "read_only": read_only(),
    "stood_still": stood_still(),
}


def lose_database(request):
    raise LOST[request.GET["how"]]


# What new code asks an old database for.
NOT_THERE = {
    "table": "SELECT 1 FROM jobs_newer",
    "column": "SELECT newer FROM jobs_job",
    "column_to_write": "INSERT INTO jobs_job (newer) VALUES (1)",
    "column_of_a_table": "SELECT jobs_job.newer FROM jobs_job",
}


def ask_for_what_is_not_there(*args, what="column", **kwargs):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(NOT_THERE[what])


def ask_too_new_a_question(request):
    ask_for_what_is_not_there(what=request.GET["what"])


def break_down(request):
    raise ValueError


def clash(request):
    raise IntegrityError("FOREIGN KEY constraint failed")


# What no row may have, whatever others wrote.
WRONG = {"no value": {"name": None}, "no such value": {"approvers_needed": 10}}


def write_what_may_not_be(request):
    with transaction.atomic():
        Business.objects.create(**WRONG[request.GET["what"]])


urlpatterns = [
    path("stop/end/", break_down, name="resume_world"),
    path("fill/", fill_session),
    path("lose/", lose_database),
    path("clash/", clash),
    path("wrong/", write_what_may_not_be),
    path("newer/", ask_too_new_a_question),
    path("", include("deploy_portal.urls")),
]


@pytest.fixture
def odd_pages(settings):
    """Adds the pages of this module."""
    settings.ROOT_URLCONF = __name__


@pytest.mark.parametrize("page", ["/login/", "/jobs/new/", "/i18n/setlang/", "/nowhere/"])
@pytest.mark.parametrize("charset", ["utf-16", "latin-1", "utf-7"])
def test_a_form_in_another_encoding_is_refused_in_words(client, db, page, charset):
    form = f"application/x-www-form-urlencoded; charset={charset}"
    response = client.post(page, "username=a", content_type=form)
    assert (response.status_code, response.text) == (400, "Send forms in UTF-8.")


@pytest.mark.parametrize("charset", ["utf-8", "utf8", "UTF_8"])
def test_utf_8_by_whatever_name_is_taken(client, db, charset):
    form = f"application/x-www-form-urlencoded; charset={charset}"
    assert "This field is required." in client.post("/login/", "username=中", content_type=form).text


PARTS = "multipart/form-data; boundary=part"
FIELD = "Content-Disposition: form-data; name=username"


@pytest.mark.parametrize("page", ["/login/", "/jobs/new/", "/nowhere/"])
@pytest.mark.parametrize(
    ("form", "sent"),
    [
        ("multipart/form-data", "x"),
        (PARTS, f"--part\r\n{FIELD}; name*1*=x; name*\r\n\r\nx\r\n--part--\r\n"),
        (PARTS, f"--part\r\n{FIELD}; filename=x\r\n\r\nx\r\n" * 101 + "--part--\r\n"),
    ],
    ids=["no boundary", "no header", "too many files"],
)
def test_a_form_that_cannot_be_read_is_refused_wherever_it_is_sent(db, page, form, sent):
    response = Client(enforce_csrf_checks=True).post(page, sent, content_type=form)
    assert response.status_code == 400
    assert "Deploy Portal" in response.text


class CutOff(io.BytesIO):
    """What comes of a form whose sender has gone."""

    def read(self, *_):
        raise OSError("connection reset by peer")


@pytest.mark.parametrize("page", ["/login/", "/nowhere/"])
def test_who_goes_before_the_form_was_read_is_no_fault_of_the_portals(db, page):
    answer = Client(enforce_csrf_checks=True).post(page, {"username": "x"}, **{"wsgi.input": CutOff()})
    assert answer.status_code in (403, 404)


def test_no_file_is_kept_on_the_disk(client, db, settings, tmp_path):
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path / "nowhere"
    large = io.BytesIO(b"x" * settings.FILE_UPLOAD_MAX_MEMORY_SIZE)
    assert 'value="li"' in client.post("/login/", {"username": "li", "file": large}).text


def test_names_of_encodings_that_somebody_makes_up_do_not_fill_the_memory(client, db, monkeypatch):
    """Python keeps each name that it was asked for: 8 kB a request, for ever."""
    monkeypatch.setattr("deploy_portal.middleware.ENCODINGS_KEPT", kept := len(encodings._cache) + 5)
    for number in range(20):
        name = f"nobodys_{number}"
        assert client.get("/health/", CONTENT_TYPE=f"text/plain; charset={name}").status_code == 200
        assert len(encodings._cache) <= kept
    assert "中".encode("gbk").decode("gbk") == "中"


@pytest.mark.parametrize("how", LOST)
def test_a_database_that_is_away_is_a_503_with_words_and_when_to_come_back(client, odd_pages, how):
    response = client.get("/lose/", {"how": how})
    assert response.status_code == 503
    assert response["Retry-After"] == "5"
    assert "Nothing was changed" in response.content.decode()


def test_the_503_is_told_in_the_readers_language(client, odd_pages):
    response = client.get("/lose/", {"how": "operational"}, headers={"accept-language": "zh-hans"})
    assert (response.status_code, response["Content-Language"]) == (503, "zh-hans")


@pytest.mark.parametrize(("language", "told"), [("en", "Somebody else was quicker"), ("zh-hans", "已有他人先一步操作")])
def test_what_the_database_refuses_at_the_last_moment_is_a_conflict_and_logged(
    client, odd_pages, caplog, language, told
):
    response = client.post("/clash/?a=1", headers={"accept-language": language})
    assert (response.status_code, told in words(response)) == (409, True)
    assert 'href="/clash/?a=1"' in response.text
    assert [(record.levelname, bool(record.exc_info)) for record in caplog.records] == [("ERROR", True)]


@pytest.mark.parametrize("what", WRONG)
def test_what_it_would_refuse_whatever_others_wrote_is_a_fault(client, db, odd_pages, what):
    """Nobody was quicker: who looks again meets the same."""
    with pytest.raises(IntegrityError):
        client.get("/wrong/", {"what": what})


@pytest.mark.parametrize("page", ["/", "/jobs/", "/jobs/1/", "/jobs/1/stages/release/", "/admin/"])
@pytest.mark.parametrize("how", LOST)
def test_no_page_of_a_person_needs_the_database_to_say_that_it_is_away(client, publisher, monkeypatch, page, how):
    client.force_login(publisher)

    def away(*args, **kwargs):
        raise LOST[how]

    with monkeypatch.context() as patch:
        patch.setattr(CursorWrapper, "execute", away)
        assert [client.get(page).status_code, client.post(page).status_code] == [503, 503]


@pytest.mark.parametrize("what", NOT_THERE)
def test_a_database_of_another_version_is_told_as_such(client, db, odd_pages, what, caplog):
    response = client.get("/newer/", {"what": what})
    assert response.status_code == 503
    assert "The database is of another version than the portal." in response.text
    assert "Traceback" in caplog.text  # it may be a fault of the code's own


@pytest.mark.parametrize("what", NOT_THERE)
def test_nobody_waits_for_such_a_database(db, what):
    with pytest.raises(Error) as told:
        ask_for_what_is_not_there(what=what)
    assert not is_away(told.value)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="a limit of PostgreSQL")
@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_stood_still_too_long_is_a_database_that_is_away():
    with pytest.raises(Error) as told, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 50")
        time.sleep(0.5)
        cursor.execute("SELECT 1")
    connection.close()
    assert is_away(told.value)


@pytest.mark.parametrize(
    "asking", ["deploy_portal.models.User.must_have_second_factor", "jobs.models.Job.objects.seen_by"]
)
def test_so_it_is_wherever_it_is_found_out(client, publisher, monkeypatch, settings, asking):
    settings.REQUIRE_SECOND_FACTOR = ["ops"]
    client.force_login(publisher)
    monkeypatch.setattr(asking, ask_for_what_is_not_there)
    response = client.get("/jobs/")
    assert (response.status_code, "manage.py migrate" in response.text) == (503, True)


def test_so_it_is_where_the_quota_is_taken(client, db, monkeypatch, settings):
    settings.LOGINS_PER_MINUTE = 60
    monkeypatch.setattr("deploy_portal.models.Quota.objects.take", ask_for_what_is_not_there)
    response = client.post("/login/", {"username": "a"})
    assert (response.status_code, "manage.py migrate" in response.text) == (503, True)


# A page that says why nothing was done must not lead by GET to what is only posted to.
LEADS_TO = {
    "/jobs/7/stages/release/skip/": "/jobs/7/stages/release/",
    "/jobs/7/runs/3/pause/": "/jobs/7/",
    "/jobs/7/stages/release/?retry=failed": "/jobs/7/stages/release/?retry=failed",
}


def leads_to(response):
    return re.search(r'<a class="button" href="([^"]*)"', response.text)[1]


@pytest.mark.parametrize("sent", LEADS_TO)
def test_the_503_leads_back_to_where_one_can_try_again(client, publisher, monkeypatch, sent):
    client.force_login(publisher)

    def away(*args, **kwargs):
        raise LOST["operational"]

    with monkeypatch.context() as patch:
        patch.setattr(CursorWrapper, "execute", away)
        assert leads_to(client.post(sent)) == LEADS_TO[sent]


@pytest.mark.parametrize("sent", LEADS_TO)
def test_a_form_that_was_too_old_leads_back(publisher, sent):
    client = Client(enforce_csrf_checks=True)
    client.force_login(publisher)
    response = client.post(sent)
    assert (response.status_code, leads_to(response)) == (403, LEADS_TO[sent])


def test_the_500_and_the_400_lead_back(client, publisher, odd_pages, settings):
    client.force_login(publisher)
    client.raise_request_exception = False
    broken, senseless = client.post("/stop/end/"), client.get("/jobs/?q=1", headers={"host": "elsewhere"})
    assert (broken.status_code, leads_to(broken)) == (500, "/stop/")
    assert (senseless.status_code, leads_to(senseless)) == (400, "/jobs/?q=1")


def test_no_way_back_leads_to_another_host(client):
    """Any site can send what makes no sense to such an address, whose page then looks like the portal's."""
    answer = client.generic("POST", "/", b"senseless", "multipart/form-data", PATH_INFO="//evil.example/login/")
    assert (answer.status_code, leads_to(answer)) == (400, "/%2Fevil.example/login/")


@pytest.mark.parametrize("sent", [sent for sent in LEADS_TO if "?" not in sent])
def test_who_opens_what_is_only_posted_to_is_led_to_its_button(client, publisher, sent):
    client.force_login(publisher)
    response = client.get(sent, headers={"accept-language": "zh-hans"})
    assert (response.status_code, response["Allow"], leads_to(response)) == (405, "POST", LEADS_TO[sent])
    assert "portal.css" in response.text
    assert response["Content-Language"] == "zh-hans"


def test_a_wrong_method_is_logged_once(as_user, publisher, caplog):
    assert as_user(publisher).get("/stop/end/").status_code == 405
    assert len([record for record in caplog.records if record.name == "django.request"]) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL does not lock the whole database")
def test_a_locked_sqlite_is_a_503_and_changes_nothing(client, make_job, approver):
    job = make_job(approved=False)
    client.force_login(approver)
    writer = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    connection.cursor().execute("PRAGMA busy_timeout = 50")
    try:
        writer.execute("BEGIN IMMEDIATE")
        assert client.post(reverse("approve_job", args=[job.pk]), {"revision": 1}).status_code == 503
    finally:
        writer.rollback()
        writer.close()
    assert client.post(reverse("approve_job", args=[job.pk]), {"revision": 1}).status_code == 302
    assert Event.objects.filter(verb="approved").count() == 1


def test_a_session_of_a_usual_size_is_kept(client, odd_pages):
    response = client.get("/fill/", {"bytes": 2000})
    assert response.status_code == 200
    assert len(client.cookies["sessionid"].value) > 1000


@pytest.mark.parametrize("size", [6000, 100_000])
def test_a_session_that_browsers_would_drop_is_refused_and_said_so(client, odd_pages, size):
    response = client.get("/fill/", {"bytes": size})
    assert response.status_code == 503
    assert escape("This page tried to keep too much in your session.") in response.content.decode()
    assert "sessionid" not in response.cookies


def test_no_cookie_above_what_browsers_take_is_ever_sent(client, odd_pages):
    for size in range(2400, 4400, 100):
        response = client.get("/fill/", {"bytes": size})
        sent = response.cookies.get("sessionid")
        assert response.status_code == 503 or len(sent.OutputString()) < 4096


def test_the_next_request_after_a_refused_session_works(client, odd_pages, publisher):
    client.force_login(publisher)
    client.get("/fill/", {"bytes": 6000})
    assert client.get("/").status_code == 200


def test_an_event_tells_the_address_that_its_person_came_from(client, make_job, approver):
    job = make_job(approved=False)
    client.force_login(approver)
    client.post(reverse("approve_job", args=[job.pk]), {"revision": 1}, REMOTE_ADDR="192.0.2.9")
    assert Event.objects.get(verb="approved").origin == "page from 192.0.2.9"


def test_the_address_of_one_request_is_not_that_of_the_next(client, make_job, approver):
    job = make_job(approved=False)
    client.force_login(approver)
    client.get("/", REMOTE_ADDR="192.0.2.9")
    job.approve(approver)
    assert Event.objects.get(verb="approved").origin == ""
