"""The headers that every kind of answer carries."""

import pytest
from django.test import Client

from releases.models import LogBlock
from tests.pages import page

CLOSED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.fixture
def ran(job, machines, start, finish):
    start(job, machines[:1])
    finish()
    machine_run = job.stages.get(kind="pre-release").runs.get().machine_runs.get()
    LogBlock.objects.create(machine_run=machine_run, number=1, stream="out", text="<b>done</b>\n")
    return machine_run


@pytest.fixture
def answers(as_user, ops, job, ran):
    """One of each kind, by name."""
    client, nobody = as_user(ops), Client()
    strict = Client(enforce_csrf_checks=True)
    log = page("machine_run_download", job, machine_run_id=ran.pk)
    part = page("machine_run_log", job, machine_run_id=ran.pk)
    return {
        "page": client.get(page("job", job)),
        "htmx part": client.get(part, headers={"HX-Request": "true"}),
        "download": client.get(log),
        "admin": client.get("/admin/jobs/business/"),
        "admin's own script": client.get("/admin/jsi18n/"),
        "CSV": client.post("/admin/jobs/event/", {"action": "export_csv", "_selected_action": []}),
        "redirect to the login": nobody.get(page("job", job)),
        "login": nobody.get("/login/"),
        "health": nobody.get("/health/"),
        "not found": client.get("/jobs/4711/"),
        "no such method": client.put("/jobs/"),
        "no CSRF token": strict.post("/login/"),
        "wrong host": nobody.get("/login/", headers={"Host": "evil.example"}),
        "static": nobody.get("/static/deploy_portal/portal.css"),
    }


@pytest.mark.one_database
def test_every_kind_of_answer_is_closed(answers):
    for kind, response in answers.items():
        found = {name: response.headers.get(name) for name in CLOSED}
        assert found == CLOSED, kind
        assert "geolocation=()" in response.headers["Permissions-Policy"], kind
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy, kind
        assert "unsafe-" not in policy, kind


@pytest.mark.one_database
def test_only_static_files_are_kept_by_anybody(answers):
    static = answers.pop("static")
    assert "no-store" not in static.headers["Cache-Control"]
    for kind, response in answers.items():
        assert "no-store" in response.headers["Cache-Control"], kind


@pytest.mark.one_database
def test_a_log_is_downloaded_as_text_and_never_shown_as_a_page(answers):
    log = answers["download"]
    assert log.headers["Content-Type"].startswith("text/plain")
    assert log.headers["Content-Disposition"].startswith("attachment")


def test_a_host_that_https_would_be_refused_for_is_closed_too(client, settings):
    settings.SECURE_SSL_REDIRECT = True
    response = client.get("/login/", headers={"Host": "evil.example"})
    assert response.status_code == 400
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
