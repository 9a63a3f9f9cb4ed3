from datetime import timedelta

import pytest
from axes.models import AccessAttempt, AccessLog
from django.core.files.storage import FileSystemStorage
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.functions import Now

from tests.conftest import PASSWORD, make_user


@pytest.fixture
def person(db):
    return make_user("person")


def try_login(client, name="person", password="wrong", **extra):
    return client.post("/login/", {"username": name, "password": password}, **extra)


def test_a_person_logs_in_and_is_at_home(client, person):
    response = try_login(client, password=PASSWORD)
    assert (response.status_code, response.url) == (302, "/")


def test_a_person_comes_back_to_the_page_they_wanted(client, person):
    page = client.get("/jobs/1/stages/release/")
    assert page.url == "/login/?next=/jobs/1/stages/release/"
    assert "#1 release" in client.get(page.url).content.decode()
    response = client.post(page.url, {"username": "person", "password": PASSWORD})
    assert response.url == "/jobs/1/stages/release/"


@pytest.mark.one_database
@pytest.mark.parametrize(
    "elsewhere",
    ["//evil", "//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "///evil.example"],
)
@pytest.mark.parametrize("method", ["query", "form"])
def test_nobody_is_sent_elsewhere_after_the_login(client, person, elsewhere, method):
    data = {"username": "person", "password": PASSWORD}
    if method == "query":
        response = client.post("/login/", data, query_params={"next": elsewhere})
    else:
        response = client.post("/login/", data | {"next": elsewhere})
    assert (response.status_code, response.url) == (302, "/")


def test_the_login_page_sends_home_who_is_logged_in(client, person):
    client.force_login(person)
    assert client.get("/login/").url == "/"


def test_a_wrong_password_says_how_many_tries_are_left(client, person):
    assert "4 tries left" in try_login(client).content.decode()
    assert "3 tries left" in try_login(client).content.decode()


@pytest.mark.parametrize(
    ("language", "said"), [("en", "case-sensitive. 4 tries left."), ("zh-hans", "大小写。还可再试 4 次。")]
)
def test_what_is_wrong_and_how_many_tries_are_left_stand_apart_as_sentences_do(client, person, language, said):
    client.cookies["django_language"] = language
    assert said in try_login(client).content.decode()


@pytest.mark.parametrize("name", [" person ", "\u3000person", "ｐｅｒｓｏｎ"])
def test_however_the_name_is_typed_the_same_tries_count(client, person, name):
    assert "4 tries left" in try_login(client, name).content.decode()
    assert "3 tries left" in try_login(client).content.decode()
    assert "2 tries left" in try_login(client, name).content.decode()


def test_after_five_wrong_tries_the_right_password_does_not_help(client, person):
    for _ in range(5):
        response = try_login(client)
    assert response.status_code == 429
    assert "Too many tries" in response.content.decode()
    assert try_login(client, password=PASSWORD).status_code == 429


def test_the_lock_out_is_for_one_name_from_one_address(client, person):
    make_user("other")
    for _ in range(5):
        try_login(client)
    assert try_login(client, "other", PASSWORD).status_code == 302
    client.post("/logout/")
    assert try_login(client, password=PASSWORD, REMOTE_ADDR="192.0.2.9").status_code == 302


def test_a_header_does_not_make_a_new_address(client, person):
    for number in range(6):
        response = try_login(client, headers={"x-forwarded-for": f"192.0.2.{number}"})
    assert response.status_code == 429


def test_who_comes_by_a_socket_has_no_address_and_is_locked_out_too(client, person):
    assert "4 tries left" in try_login(client, REMOTE_ADDR="").content.decode()
    for _ in range(4):
        response = try_login(client, REMOTE_ADDR="")
    assert response.status_code == 429
    assert try_login(client, password=PASSWORD, REMOTE_ADDR="").status_code == 429


def test_the_lock_out_counts_for_the_admins_login_too(client, ops):
    for _ in range(5):
        try_login(client, "ops")
    response = client.post("/admin/login/", {"username": "ops", "password": PASSWORD})
    assert response.status_code in (302, 429)
    assert client.get("/").status_code == 302


def test_a_login_that_works_gives_all_tries_back(client, person):
    try_login(client)
    try_login(client, password=PASSWORD)
    client.post("/logout/")
    assert "4 tries left" in try_login(client).content.decode()


def test_a_password_that_is_typed_where_the_name_goes_is_not_in_the_log(client, person, caplog):
    try_login(client, "my secret", "another secret")
    kept = AccessAttempt.objects.get()
    assert "secret" not in f"{caplog.text}{kept.post_data}"


def test_rows_of_old_logins_are_deleted_as_the_document_says(client, person):
    for age in (0, 181):
        try_login(client, password=PASSWORD)
        AccessLog.objects.filter(pk=AccessLog.objects.latest("pk").pk).update(attempt_time=Now() - timedelta(days=age))
        client.post("/logout/")
    call_command("axes_reset_logs", "--age", "180")
    assert AccessLog.objects.count() == 1


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000, "' OR 1=1 --", "<script>", "用户"])
@pytest.mark.parametrize("page", ["/login/", "/admin/login/"])
def test_a_strange_name_is_a_failed_login(client, person, name, page):
    response = client.post(page, {"username": name, "password": "wrong"})
    assert response.status_code in (200, 302)
    assert client.get("/").status_code == 302
    assert "<script>" not in response.content.decode().replace("<script src", "")


def test_a_long_name_runs_out_of_tries_too(client, person):
    for _ in range(5):
        response = try_login(client, "x" * 5000)
    assert response.status_code == 429


def test_a_person_who_was_deactivated_does_not_get_in(client, person):
    person.is_active = False
    person.save()
    assert try_login(client, password=PASSWORD).status_code == 200


def test_logging_out_is_asked_for_by_post_only(client, person):
    client.force_login(person)
    assert client.get("/logout/").status_code == 405
    assert client.get("/").status_code == 200
    assert client.post("/logout/").url == "/login/"
    assert client.get("/").status_code == 302


def test_logging_out_twice_does_no_harm(client, person):
    client.force_login(person)
    client.post("/logout/")
    assert client.post("/logout/").url == "/login/"


def test_a_logout_that_another_site_sends_is_refused(person):
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    client.force_login(person)
    assert client.post("/logout/").status_code == 403
    assert client.get("/").status_code == 200


def test_the_portal_says_that_it_is_well(client, db):
    response = client.get("/health/")
    assert (response.status_code, response.json()) == (200, {"database": "ok"})


def test_the_portal_says_that_its_database_is_away(client, db, monkeypatch):
    def away(self):
        raise OperationalError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "ensure_connection", away)
        response = client.get("/health/")
    assert (response.status_code, response.json()) == (503, {"database": "away"})


def test_a_database_that_lacks_a_migration_is_not_well(client, db):
    assert client.get("/health/").status_code == 200
    MigrationRecorder(connection).record_unapplied("releases", "0006_newest_of_machine")
    response = client.get("/health/")
    assert response.status_code == 503
    assert response.json() == {"database": "older than the portal: run manage.py migrate"}


def test_the_database_of_a_newer_portal_is_not_well(client, db):
    """Whoever spreads the load is to leave out a host on which the old one was forgotten."""
    recorder = MigrationRecorder(connection)
    recorder.record_applied("an_app_that_went", "0001_initial")
    assert client.get("/health/").status_code == 200
    recorder.record_applied("releases", "9999_to_come")
    response = client.get("/health/")
    assert response.status_code == 503
    assert response.json() == {"database": "newer than the portal: start the newer one here, too"}


def test_a_process_without_the_files_of_its_pages_is_not_well(client, db, settings, tmp_path):
    """Each of its pages would be an error."""
    manifest = {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}
    settings.STORAGES, settings.STATIC_ROOT = settings.STORAGES | {"staticfiles": manifest}, tmp_path
    response = client.get("/health/")
    assert response.status_code == 503
    assert "run manage.py collectstatic" in response.json()["static_files"]
    call_command("collectstatic", interactive=False, verbosity=0)
    response = client.get("/health/")
    assert (response.status_code, response.json()) == (200, {"database": "ok"})


@pytest.mark.parametrize("name", [".DS_Store", "portal.css~"])
def test_a_process_misses_no_file_that_collectstatic_leaves_aside(client, db, settings, tmp_path, monkeypatch, name):
    manifest = {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}
    settings.STORAGES, settings.STATIC_ROOT = settings.STORAGES | {"staticfiles": manifest}, tmp_path / "collected"
    monkeypatch.setattr("deploy_portal.views.health.STATIC", FileSystemStorage(tmp_path))
    (tmp_path / name).touch()
    assert client.get("/health/").status_code == 200
    (tmp_path / "portal.css").touch()
    assert client.get("/health/").status_code == 503


def test_health_is_no_redirect_to_https(client, db, settings):
    settings.SECURE_SSL_REDIRECT = True
    assert client.get("/login/").status_code == 301
    assert client.get("/health/").status_code == 200


def test_health_is_asked_by_head_too(client, db):
    assert client.head("/health/").status_code == 200


def test_health_is_not_for_writing(client, db):
    assert client.post("/health/").status_code == 405


@pytest.mark.parametrize(
    ("sent", "page"),
    [
        ("/jobs/7/approve/", "/jobs/7/"),
        ("/jobs/7/stages/release/skip/", "/jobs/7/stages/release/"),
        ("/notices/3/acknowledge/", "/"),
        ("/stop/end/", "/stop/"),
        ("/login/code/", "/"),
        ("/jobs/7/approve/?hand=made", "/jobs/7/"),
        ("/jobs/7/%61pprove/", "/jobs/7/"),
        ("http://testserver/jobs/7/approve/", "/jobs/7/"),
    ],
)
def test_whose_session_ended_before_a_step_goes_to_the_page_with_its_button(client, person, sent, page):
    assert try_login(client, password=PASSWORD, query_params={"next": sent}).url == page


@pytest.mark.parametrize("page", ["/login/", "/login/code/"])
def test_who_is_logged_in_is_not_sent_in_a_circle(as_user, person, page):
    assert as_user(person).get(page, {"next": page}).url == "/"
