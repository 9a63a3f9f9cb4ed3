"""The system checks of our own: what each finds, and that a production set-up has none of it."""

import os

import pytest
from django.core.checks import run_checks
from django.core.management import call_command

from deploy_portal import checks

NEW = "n" * 60


@pytest.fixture(autouse=True)
def production(settings, tmp_path, monkeypatch):
    settings.BASE_DIR = tmp_path
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch(mode=0o600)
    (tmp_path / "there").write_text("a key")
    settings.SECURE, settings.ALLOWED_HOSTS = True, ["portal.example"]
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.postgresql")
    settings.ALLOW_LOOPBACK_MACHINES = settings.ALLOW_INVENTORY_SCRIPTS = settings.SSH_AGENT = False
    settings.EXECUTOR, settings.SSH_KEY_FILES, settings.SSH_KEYS_DIR = "ssh", [], ""
    settings.SSH_KNOWN_HOSTS, settings.SECRET_KEY_FALLBACKS = "", []
    settings.EMAIL_BACKEND, settings.EMAIL_HOST = "django.core.mail.backends.smtp.EmailBackend", "mail.example"
    settings.DEFAULT_FROM_EMAIL = "portal@example.com"


def found():
    ours = [
        each for each in run_checks(tags=["security"], include_deployment_checks=True) if "deploy_portal" in each.id
    ]
    assert all(each.hint for each in ours)
    return [int(each.id[-3:]) for each in ours]


def test_a_production_set_up_has_none():
    assert found() == []


@pytest.mark.parametrize(
    ("number", "changed"),
    [
        (2, {"ALLOWED_HOSTS": ["portal.example", "*"]}),
        (3, {"SECURE": False}),
        (3, {"SECURE": False, "ALLOWED_HOSTS": ["localhost", "10.0.0.1"]}),
        (4, {"ALLOW_LOOPBACK_MACHINES": True}),
        (5, {"ALLOW_INVENTORY_SCRIPTS": True}),
        (6, {"EXECUTOR": "dummy"}),
        (7, {"SSH_KEY_FILES": ["there"]}),
        (8, {"SSH_AGENT": True, "SSH_KNOWN_HOSTS": "there", "SSH_AUTH_SOCK": ""}),
        (10, {"SECRET_KEY_FALLBACKS": [f"{number}{NEW}" for number in range(4)]}),
        (11, {"SECRET_KEY_FALLBACKS": ["short"]}),
        (13, {"SSH_KNOWN_HOSTS": "/nowhere/known_hosts"}),
        (13, {"SSH_KNOWN_HOSTS": os.devnull}),
        (13, {"SSH_KEY_FILES": ["there", "there/key"], "SSH_KNOWN_HOSTS": "there"}),
        (13, {"SSH_KEYS_DIR": "/nowhere", "SSH_KNOWN_HOSTS": "there"}),
        (14, {"DEFAULT_FROM_EMAIL": "deploy-portal@localhost"}),
        (14, {"DEFAULT_FROM_EMAIL": "Portal <deploy-portal@localhost>"}),
    ],
)
def test_what_each_finds(settings, number, changed):
    for name, value in changed.items():
        setattr(settings, name, value)
    assert found() == [number]


def test_sqlite(settings, tmp_path, monkeypatch):
    file = tmp_path / "db.sqlite3"
    file.touch(mode=0o600)
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", file)
    assert found() == [1]
    file.chmod(0o644)
    assert sorted(found()) == [1, 9]


def test_the_present_key_is_no_old_one(settings):
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    assert found() == [11]


@pytest.mark.parametrize("hosts", [["localhost", "127.0.0.1", "[::1]", "portal.localhost"], []])
def test_without_https_on_loopback_is_a_demo(settings, hosts):
    settings.SECURE, settings.ALLOWED_HOSTS = False, hosts
    settings.ALLOW_LOOPBACK_MACHINES, settings.EXECUTOR = True, "dummy"
    assert found() == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o602])
def test_secrets_that_others_can_read(settings, tmp_path, monkeypatch, mode):
    variables = [
        *("SECRET_KEY", "DATABASE_URL", "EMAIL_URL", "LDAP_BIND_PASSWORD", "OIDC_CLIENT_SECRET", "CONFIG_TOKEN_CMDB"),
        "TOKEN_OF_A_SCRIPT",
    ]
    settings.MASKED_VARIABLES = variables[-1:]
    files = [tmp_path / name for name in (".env", "key", "keys/payment", *variables)]
    (tmp_path / "keys").mkdir()
    for path in [*files, tmp_path / "keys/orders.pub"]:
        path.touch(mode=0o600)
    for name in variables:
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    settings.SSH_KEY_FILES, settings.SSH_KEYS_DIR = [str(files[1])], str(tmp_path / "keys")
    settings.SSH_KNOWN_HOSTS = "there"
    for path in files:
        path.write_text("secret")
    (tmp_path / "keys/orders.pub").chmod(0o644)
    assert found() == []
    for path in files:
        path.chmod(mode)
    assert found() == [9] * len(files)


@pytest.mark.parametrize(
    "changed",
    [{"EMAIL_HOST": "localhost"}, {"EMAIL_BACKEND": "django.core.mail.backends.dummy.EmailBackend"}],
)
def test_mail_that_goes_nowhere_else_may_come_from_localhost(settings, changed):
    for name, value in changed.items():
        setattr(settings, name, value)
    settings.DEFAULT_FROM_EMAIL = "deploy-portal@localhost"
    assert found() == []


def test_static_files_that_are_missing_or_old(settings, tmp_path):
    settings.WHITENOISE_USE_FINDERS, settings.STATIC_ROOT = False, tmp_path / "static"
    assert found() == [15]
    call_command("collectstatic", interactive=False, verbosity=0)
    assert found() == []
    (tmp_path / "static/deploy_portal/portal.css").write_text("of old")
    assert found() == [15]


def test_a_file_that_collectstatic_leaves_aside_is_not_missed(settings, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/.DS_Store").touch()
    settings.STATICFILES_DIRS, settings.STATIC_ROOT = [tmp_path / "own"], tmp_path / "static"
    settings.WHITENOISE_USE_FINDERS = False
    call_command("collectstatic", interactive=False, verbosity=0)
    assert found() == []


def of_the_database():
    return [each.id for each in run_checks(databases=["default"], tags=["database"])]


def test_the_databases_encoding(db, monkeypatch):
    assert of_the_database() == []
    monkeypatch.setattr(checks, "_encoding", lambda: "SQL_ASCII")
    assert of_the_database() == ["deploy_portal.W012"]
