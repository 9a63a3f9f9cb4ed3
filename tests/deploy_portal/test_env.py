import re

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from deploy_portal import env


@pytest.fixture
def setting(monkeypatch):
    """Sets the environment variable SETTING."""
    monkeypatch.delenv("SETTING", raising=False)
    monkeypatch.delenv("SETTING_FILE", raising=False)
    return lambda value, name="SETTING": monkeypatch.setenv(name, value)


def assert_refused(read, *args, **kwargs):
    with pytest.raises(ImproperlyConfigured) as caught:
        read("SETTING", *args, **kwargs)
    assert "SETTING" in str(caught.value)
    return str(caught.value)


def test_a_file_sets_what_the_environment_does_not(setting, monkeypatch, tmp_path):
    setting("environment")
    monkeypatch.setenv("OTHER", "")
    monkeypatch.delenv("OTHER")
    file = tmp_path / ".env"
    env.read(file)
    file.write_text("SETTING=file\nOTHER=file\n")
    env.read(file)
    assert (env.text("SETTING"), env.text("OTHER")) == ("environment", "file")


def test_a_file_that_cannot_be_read_is_no_reason_to_run_on_sqlite(monkeypatch, tmp_path):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL_FILE", raising=False)
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL"):
        env.read(tmp_path)
    for name in ("DATABASE_URL", "DATABASE_URL_FILE"):
        with monkeypatch.context() as one:
            one.setenv(name, "postgres://db.example/portal")
            env.read(tmp_path)


@pytest.mark.parametrize("line", ["SETTING = secret", " SETTING=secret", "SETTING: secret", "SETTING secret", "secret"])
def test_a_line_of_a_file_that_sets_nothing_is_refused_and_not_repeated(setting, tmp_path, caplog, line):
    (tmp_path / ".env").write_text(f"# Needed\n\n{line}\n")
    with pytest.raises(ImproperlyConfigured, match=r"\.env, line 3") as caught:
        env.read(tmp_path / ".env")
    assert "secret" not in str(caught.value) + caplog.text


def test_a_file_may_have_blank_lines_and_a_mark_of_its_encoding(monkeypatch, tmp_path, caplog):
    for name in ("ONE", "OTHER"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    (tmp_path / ".env").write_text("\ufeffONE=ö\n  \n  # no setting\nexport OTHER='a # b'\n", encoding="utf-8")
    env.read(tmp_path / ".env")
    assert (env.text("ONE"), env.text("OTHER"), caplog.text) == ("ö", "a # b", "")


def test_a_file_that_is_no_utf_8_is_refused(tmp_path):
    (tmp_path / ".env").write_bytes(b"SETTING=\xfc\n")
    with pytest.raises(ImproperlyConfigured, match=r"\.env cannot be read"):
        env.read(tmp_path / ".env")


@pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
def test_a_flag_is_on(setting, value):
    setting(value)
    assert env.flag("SETTING", False) is True


@pytest.mark.parametrize("value", ["0", "False", "no", "off"])
def test_a_flag_is_off(setting, value):
    setting(value)
    assert env.flag("SETTING", True) is False


@pytest.mark.parametrize("default", [True, False])
def test_a_flag_that_is_empty_has_its_default(setting, default):
    assert env.flag("SETTING", default) is default
    setting("  ")
    assert env.flag("SETTING", default) is default


@pytest.mark.parametrize("value", ["2", "ja", "enabled", "-1", "none"])
def test_a_flag_that_cannot_be_meant_is_refused(setting, value):
    setting(value)
    assert value in assert_refused(env.flag, False)


def test_a_number_is_read(setting):
    assert env.number("SETTING", 7) == 7
    setting("42")
    assert env.number("SETTING", 7) == 42


@pytest.mark.parametrize("value", ["-1", "1.5", "ten", "1e3", "0x10", "٣", "101", "0", "9" * 5000])
def test_a_number_that_cannot_be_meant_is_refused(setting, value):
    setting(value)
    assert_refused(env.number, 7, least=1, most=100)


def test_words_are_parted_by_commas(setting):
    assert env.words("SETTING", ["a", "b"]) == ["a", "b"]
    setting(" one, two,, ")
    assert env.words("SETTING") == ["one", "two"]


def test_a_choice_is_one_of_its_values(setting):
    assert env.choice("SETTING", "ssh", ["ssh", "dummy"]) == "ssh"
    setting("dummy")
    assert env.choice("SETTING", "ssh", ["ssh", "dummy"]) == "dummy"
    setting("telnet")
    assert "ssh, dummy" in assert_refused(env.choice, "ssh", ["ssh", "dummy"])


def test_choices_are_some_of_the_values(setting):
    assert env.choices("SETTING", ["a", "b", "c"]) == []
    setting(" c, a ")
    assert env.choices("SETTING", ["a", "b", "c"]) == ["c", "a"]
    setting("a, d")
    assert "a, b, c; d" in assert_refused(env.choices, ["a", "b", "c"])


def test_a_secret_is_a_value_or_the_content_of_a_file(setting, tmp_path):
    assert env.secret("SETTING") == ""
    setting("in the open")
    assert env.secret("SETTING") == "in the open"
    setting("")
    path = tmp_path / "secret"
    path.write_text("from a file\n")
    setting(str(path), "SETTING_FILE")
    assert env.secret("SETTING") == "from a file"


@pytest.mark.parametrize("value", ["$ecret", "$HOME", r"\$ecret", "$", "${HOME}"])
def test_what_begins_with_a_dollar_is_taken_as_it_is(setting, value, tmp_path):
    setting(value)
    assert env.text("SETTING") == env.secret("SETTING") == env.words("SETTING")[0] == value
    setting("")
    (tmp_path / "secret").write_text(value)
    setting(str(tmp_path / "secret"), "SETTING_FILE")
    assert env.secret("SETTING") == value


def test_a_database_and_a_mail_server_may_have_such_a_password(setting):
    setting("postgres://portal:$HOME@db.example/portal")
    assert env.database("SETTING", "sqlite:///unused")["PASSWORD"] == "$HOME"
    setting("smtp://portal:$HOME@mail.example.com:587")
    assert env.mail("SETTING", "dummymail://")["EMAIL_HOST_PASSWORD"] == "$HOME"


def test_a_secret_that_is_given_twice_is_refused(setting, tmp_path):
    setting("one")
    setting(str(tmp_path), "SETTING_FILE")
    assert "not both" in assert_refused(env.secret)


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_secret_whose_file_cannot_be_read_is_refused(setting, tmp_path, name):
    setting(str(tmp_path / name), "SETTING_FILE")
    assert_refused(env.secret)


def test_a_secret_whose_file_is_empty_is_refused(setting, tmp_path):
    (tmp_path / "empty").write_text(" \n")
    setting(str(tmp_path / "empty"), "SETTING_FILE")
    assert_refused(env.secret)


def test_a_secret_that_is_no_text_is_refused(setting, tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    setting(str(tmp_path / "binary"), "SETTING_FILE")
    assert_refused(env.secret)


def test_a_time_zone_is_one_that_exists(setting):
    assert env.time_zone("SETTING", "UTC") == "UTC"
    setting("Asia/Shanghai")
    assert env.time_zone("SETTING", "UTC") == "Asia/Shanghai"
    setting("Asia/Atlantis")
    assert_refused(env.time_zone, "UTC")


def test_a_host_without_time_zones_is_told_what_it_lacks(setting, monkeypatch):
    monkeypatch.setattr(env, "available_timezones", set)  # as in a bare container
    with pytest.raises(ImproperlyConfigured, match="install its package tzdata"):
        env.time_zone("SETTING", "UTC")


def test_sqlite_gets_what_parallel_writers_need(setting):
    database = env.database("SETTING", "sqlite:////tmp/portal.sqlite3")
    assert database["NAME"] == "/tmp/portal.sqlite3"
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in database["OPTIONS"]["init_command"]


def test_postgresql_is_asked_whether_it_still_answers(setting):
    setting("postgres://portal:secret@db.example/portal?sslmode=require")
    database = env.database("SETTING", "sqlite:///unused")
    assert database["CONN_HEALTH_CHECKS"] is True
    assert (database["HOST"], database["NAME"]) == ("db.example", "portal")
    assert database["OPTIONS"] == {**env.FOR_POSTGRESQL, "sslmode": "require"}


def test_how_long_postgresql_may_be_silent_can_be_said_in_its_address(setting):
    setting("postgres://portal@db.example/portal?connect_timeout=30&keepalives_idle=60")
    options = env.database("SETTING", "sqlite:///unused")["OPTIONS"]
    assert options == {**env.FOR_POSTGRESQL, "connect_timeout": 30, "keepalives_idle": 60}


def test_a_pooler_in_transaction_mode_can_be_told_of_in_the_address(setting):
    setting("postgres://portal@pgbouncer.example/portal?DISABLE_SERVER_SIDE_CURSORS=1")
    database = env.database("SETTING", "sqlite:///unused")
    assert database["DISABLE_SERVER_SIDE_CURSORS"] == 1
    assert database["OPTIONS"] == env.FOR_POSTGRESQL


def test_the_address_of_a_database_may_come_from_a_file(setting, tmp_path):
    (tmp_path / "url").write_text("postgres://portal:secret@db.example/portal\n")
    setting(str(tmp_path / "url"), "SETTING_FILE")
    assert env.database("SETTING", "sqlite:///unused")["PASSWORD"] == "secret"


def test_a_password_in_an_address_is_written_as_the_example_says(setting):
    example = (settings.BASE_DIR / ".env.example").read_text()
    written = dict(re.findall(r"(\S) as (%[0-9A-F]{2})", example))
    setting(f"postgres://portal:{''.join(written.get(char, char) for char in '50%41/?#@:+ ö')}@db.example/portal")
    assert env.database("SETTING", "sqlite:///unused")["PASSWORD"] == "50%41/?#@:+ ö"
    setting("postgres://portal:x/y@db.example/portal")
    assert all(f"{char} as {how}" in assert_refused(env.database, "sqlite:///unused") for char, how in written.items())


@pytest.mark.parametrize(
    "value", ["mysql://root@db.example/portal", "portal.sqlite3", "portal", "http://db.example", "://"]
)
def test_a_database_that_the_portal_does_not_know_is_refused(setting, value):
    setting(value)
    assert_refused(env.database, "sqlite:///unused")


@pytest.mark.parametrize("value", ["sqlite://portal.sqlite3", "sqlite://:memory:", "sqlite:///", "sqlite:"])
def test_a_database_in_memory_is_refused(setting, value):
    setting(value)
    assert_refused(env.database, "sqlite:///unused")


@pytest.mark.parametrize(
    "value", ["mysql://root:hunter2@db.example/portal", *(f"postgres://portal:hunter2{c}x@db/portal" for c in "/?")]
)
def test_a_refused_database_does_not_show_its_password(setting, value):
    setting(value)
    assert "hunter2" not in assert_refused(env.database, "sqlite:///unused")


def test_a_mail_server_is_an_address(setting):
    setting("smtp+tls://portal:secret@mail.example.com:587")
    told = env.mail("SETTING", "dummymail://")
    assert (told["EMAIL_HOST"], told["EMAIL_PORT"], told["EMAIL_USE_TLS"]) == ("mail.example.com", 587, True)
    setting("")
    assert env.mail("SETTING", "dummymail://")["EMAIL_BACKEND"].endswith("dummy.EmailBackend")


@pytest.mark.parametrize(
    "value",
    [
        *("mail.example.com", "http://user:hidden@mail.example.com", "smtp://mail.example.com:x"),
        *("smtp://user:hidden/x@mail.example.com", "smtp://", "smtp+tls://user:hidden@:587"),
    ],
)
def test_a_mail_server_that_cannot_be_meant_is_refused(setting, value):
    setting(value)
    assert "hidden" not in assert_refused(env.mail, "dummymail://")
