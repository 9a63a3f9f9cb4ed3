"""What is masked in the words of a machine, what is not, and that no text takes more than its length to go through."""

import random
import re
import time

import pytest

from releases.executors import dummy, remote_shell, ssh
from releases.masking import KEY_LIMIT, MASK, KeyMasker, Masker, known_secrets, masked, rest_of_key

KEY = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEowIBAAKCAQEAtopsecretkeybody\n" * 20 + "-----END RSA PRIVATE KEY-----"
HIDDEN_KEY = f"-----BEGIN RSA PRIVATE KEY {MASK} -----END RSA PRIVATE KEY-----"
GITHUB = "ghp_" + "a1B2c3D4e5" * 3
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"


@pytest.fixture
def variables(monkeypatch, settings, tmp_path):
    """Sets environment variables; a value that is a list is written into a file that the variable names."""

    def set_variables(**values):
        for name, value in values.items():
            if isinstance(value, list):
                (tmp_path / name).write_text("\n".join(value))
            monkeypatch.setenv(name, str(tmp_path / name) if isinstance(value, list) else value)

    monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", None)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the-secret-key-of-this-portal", []
    settings.MASKED_VARIABLES = []
    return set_variables


class TestKnown:
    def test_the_secret_key_and_those_before_it(self, variables, settings):
        settings.SECRET_KEY_FALLBACKS = ["the-older-key", "the-oldest-key"]
        text = "a the-secret-key-of-this-portal b the-older-key c the-oldest-key d"
        assert masked(text) == f"a {MASK} b {MASK} c {MASK} d"

    def test_the_password_of_the_database_as_it_is_and_as_an_address_has_it(self, variables, settings, monkeypatch):
        monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", "sesame/open?")
        assert masked("it is sesame/open? and sesame%2Fopen%3F here") == f"it is {MASK} and {MASK} here"

    def test_a_database_without_a_password(self, variables):
        assert masked("nothing at all") == "nothing at all"

    def test_tokens_of_the_config_service(self, variables):
        variables(CONFIG_TOKEN_CMDB="from-the-cmdb", CONFIG_TOKEN_FLEET_FILE=["from-a-file"])
        assert masked("from-the-cmdb from-a-file") == f"{MASK} {MASK}"

    def test_the_name_of_the_file_of_a_token_is_no_secret(self, variables, tmp_path):
        variables(CONFIG_TOKEN_FLEET_FILE=["from-a-file"])
        assert str(tmp_path) in masked(f"reading {tmp_path}/CONFIG_TOKEN_FLEET_FILE now")

    @pytest.mark.parametrize("path", ["/nowhere/at/all", "/"])
    def test_a_file_that_cannot_be_read_does_not_stand_in_the_way(self, variables, path):
        variables(CONFIG_TOKEN_FLEET_FILE=path, CONFIG_TOKEN_CMDB="from-the-cmdb")
        assert masked("from-the-cmdb") == MASK

    def test_a_file_that_can_be_read_no_more(self, variables, tmp_path):
        variables(CONFIG_TOKEN_FLEET_FILE=["from-a-file"])
        assert masked("from-a-file") == MASK
        (tmp_path / "CONFIG_TOKEN_FLEET_FILE").unlink()
        assert masked("from-a-file") == MASK

    def test_variables_that_are_named(self, variables, settings):
        variables(REGISTRY_LOGIN="registry-login", VAULT_FILE=["vault-word"], OTHER="other-word")
        settings.MASKED_VARIABLES = ["REGISTRY_LOGIN", "VAULT", "NOT_SET"]
        assert masked("registry-login vault-word other-word") == f"{MASK} {MASK} other-word"

    @pytest.mark.parametrize(("value", "shown"), [("1", "1 2 1"), ("12345", "12345 6"), ("123456", f"{MASK} 7")])
    def test_a_short_value_is_not_masked(self, variables, settings, value, shown):
        variables(PIN=value)
        settings.MASKED_VARIABLES = ["PIN"]
        assert masked(shown.replace(MASK, value)) == shown

    @pytest.mark.parametrize("words", ["correct-horse", "correct horse"])
    def test_of_two_that_begin_alike_the_longer_one_is_masked_whole(self, variables, settings, words):
        variables(ONE=words, TWO=f"{words} battery")
        settings.MASKED_VARIABLES = ["ONE", "TWO"]
        assert masked(f"<{words} battery> <{words}>") == f"<{MASK}> <{MASK}>"

    def test_a_value_of_several_lines_is_masked_line_by_line(self, variables, settings):
        variables(TWO_LINES="first line of it\n  second line of it\n}\n")
        settings.MASKED_VARIABLES = ["TWO_LINES"]
        assert masked("| first line of it\n|   second line of it\n| }") == f"| {MASK}\n|   {MASK}\n| }}"

    def test_a_secret_is_text_and_no_pattern(self, variables, settings):
        variables(ODD=r"a.*(b[c\1")
        settings.MASKED_VARIABLES = ["ODD"]
        assert masked(r"a.*(b[c\1 and axx(b") == f"{MASK} and axx(b"

    def test_a_password_that_is_a_name_of_passwords(self, variables, settings, monkeypatch):
        monkeypatch.setitem(settings.DATABASES["default"], "PASSWORD", "password")
        assert masked("password=hunter22 here") == f"{MASK}={MASK} here"

    def test_what_a_script_is_told_is_no_secret(self, variables, monkeypatch):
        monkeypatch.setenv("DEPLOY_VERSION", "2.14.3-rc1")
        assert masked("deploying 2.14.3-rc1") == "deploying 2.14.3-rc1"

    def test_each_is_known_once_and_none_is_empty(self, variables):
        variables(CONFIG_TOKEN_A="same-token", CONFIG_TOKEN_B="same-token", CONFIG_TOKEN_C="  ")
        known = known_secrets()
        assert known.count("same-token") == 1
        assert min(map(len, known)) >= 6


@pytest.mark.parametrize(
    "text",
    [
        "password=<hunter2>",
        "DB_PASSWORD=<hunter2> next",
        "PGPASSWORD=<hunter2>",
        "Password: <hunter2>",
        "passwd: <hunter2>",
        "passphrase = <hunter2> next",
        "MYSQL_PWD=<hunter2> PWD=/opt/app",
        "Uid=sa;Pwd=<hunter2>;Database=x",
        "token=<abc>",
        "npm_authToken=<abc>",
        "secret=<abc>",
        "client_secret: <abc>",
        "SECRET_KEY=<abc>",
        "AWS_SECRET_ACCESS_KEY=<abc/def+ghi==>",
        "credential=<abc> credentials: <def>",
        "private_key=<abc>",
        "api_key=<abc>",
        "X-Api-Key: <abc>",
        "apikey => <abc>",
        "apiKey := <abc>",
        'password="<two words, and; more>" next',
        r'password="<a \" quote>" next',
        "password='<two words>' next",
        r"token='<a \' quote>' next",
        'password="<no end of it',
        '{"user": "bob", "password": "<hunter2>", "next": 1}',
        '{"password":"<a>","token":"<b>"}',
        r'"{\"password\":\"<two words>\",\"next\":1}"',
        "https://h.example/p?token=<abc>&user=bob#top",
        "https://h.example/p?user=bob&api_key=<abc>",
        "password=<a&b,c;d> next",
        "password=<a\"b'c> next",
        "Authorization: Bearer <abc.def-ghi>",
        "authorization: basic <dXNlcjpwYXNz==>",
        "Authorization: token <abc>",
        "Proxy-Authorization: Basic <dXNlcjpwYXNz==>",
        "curl -H 'Authorization: Bearer <abc>' https://h.example/",
        '{"Authorization": "Bearer <abc>"}',
        "postgres://portal:<hunter2>@db.example/portal",
        "redis://:<hunter2>@cache:6379/0",
        "https://bob:<p@ss:word>@h.example/p",
        "git clone https://oauth2:<hunter2>@git.example/x.git && echo done",
        "key <AKIAIOSFODNN7EXAMPLE> or <ASIAIOSFODNN7EXAMPLE>.",
        "<ghp_{0}> <gho_{0}> <ghs_{0}>, <ghu_{0}> <ghr_{0}>".format("a1B2c3D4e5" * 3),
        "<github_pat_11ABCDEFG0abcdefghij_klmnopqrstuvwxyz>",
        "<glpat-a1B2c3D4e5F6g7H8i9J0>",
        "<xoxb-1234567890-abcdefghij> <xoxp-1234567890> <xoxs-1234567890>",
        "<xoxa-2-1234567890> <xoxo-1234567890> <xoxr-1234567890>",
        f"<{JWT}>, said the service",
        f"[<{JWT}>]",
        "<eyJhbGciOiJkaXIifQ..c3VwZXJpdg.Y2lwaGVydGV4dA.dGFn>",
        "пароль password=<секрет> 密码 token=<秘密>",
    ],
)
def test_what_is_shaped_like_a_secret_is_masked_and_nothing_around_it(text):
    said = re.sub(r"<([^<>]*)>?", r"\1", text)
    assert masked(said) == re.sub(r"<[^<>]*>?", MASK, text)


@pytest.mark.parametrize(
    "text",
    [
        "password=",
        "Password: \nnext line",
        "tokens: 5, passwords: 7",
        "no secret here, only a token of words",
        "PWD=/opt/app OLDPWD=/",
        "compass: north",
        "https://h.example:8443/path?x=1 and ftp://h/@x",
        "user@host: done 12:30:00",
        "Basic checks passed; the bearer of news",
        "commit 3db6473a1b2c3d4e5f60718293a4b5c6d7e8f901",
        "AKIA is short, ghp_short, glpat-short, xoxb-short, eyJ.eyJ.x",
        "------------------------------ BEGIN OF OUTPUT -----",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "DEPLOY_VERSION=2.14.3 DEPLOY_MACHINE=pay-1",
        "",
        MASK,
    ],
)
def test_what_is_none_stays(text):
    assert masked(text) == text


@pytest.mark.parametrize("module", [dummy, remote_shell, ssh])
def test_the_words_of_the_portal_itself_stay(module):
    texts = [value for value in vars(module).values() if isinstance(value, str) and " " in value]
    assert texts or module is dummy
    assert [masked(text) for text in texts if "BEGIN" not in text] == texts


def test_masking_twice_is_masking_once():
    text = f"password=abc token='x y' {GITHUB} https://a:b@c/ Authorization: Bearer abc {JWT}\n{KEY}\n"
    assert masked(masked(text)).count(MASK) == masked(text).count(MASK)
    assert Masker()(Masker()(text)) == Masker()(text)


class TestKeys:
    def test_all_of_a_key_is_one_mask(self):
        assert masked(f"before\n{KEY}\nafter") == f"before\n{HIDDEN_KEY}\nafter"

    @pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", "DSA "])
    def test_of_every_kind(self, kind):
        assert "body" not in masked(KEY.replace("RSA ", kind))

    @pytest.mark.parametrize(
        "key",
        [
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nbody\n-----END PGP PRIVATE KEY BLOCK-----",
            "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nbody\n---- END SSH2 ENCRYPTED PRIVATE KEY ----",
            "-----BEGIN PRIVATE KEY-----\\nbody\\n-----END PRIVATE KEY-----",
        ],
    )
    def test_however_it_is_written(self, key):
        shown = masked(f"a {key} b")
        assert "body" not in shown
        assert shown.startswith("a ")
        assert shown.endswith(" b")

    def test_in_what_a_shell_says_of_its_variables(self):
        shown = masked(f"SSH_PRIVATE_KEY={KEY}\nHOME=/root\n")
        assert "body" not in shown
        assert shown.endswith("\nHOME=/root\n")

    def test_two_with_text_between_them(self):
        assert masked(f"{KEY}\nbetween\n{KEY}\n") == f"{HIDDEN_KEY}\nbetween\n{HIDDEN_KEY}\n"

    def test_one_without_an_end_is_masked_to_the_end(self):
        assert masked(KEY.replace("END", "")) == f"-----BEGIN RSA PRIVATE KEY {MASK} "

    def test_a_marker_without_a_key_does_not_mask_a_whole_log(self):
        shown = masked("-----BEGIN PRIVATE KEY-----\n" + "line\n" * 10_000)
        assert 10_000 * 5 - len(shown) == pytest.approx(KEY_LIMIT, abs=100)

    def test_after_that_the_next_key_is_masked_too(self):
        shown = masked("-----BEGIN PRIVATE KEY-----\n" + "line\n" * 10_000 + KEY + "\nend\n")
        assert shown.endswith(f"line\n{HIDDEN_KEY}\nend\n")

    @pytest.mark.parametrize("seed", range(30))
    def test_however_it_is_split_the_text_is_the_same(self, seed):
        text = f"----- a\n{KEY}\nb ---\n-----BEGIN PRIVATE KEY-----\n" + "line\n" * 5000 + f"{KEY}\n-----\nc -----"
        chance, keys, shown, at = random.Random(seed), KeyMasker(), "", 0
        while at < len(text):
            size = chance.choice([1, 2, 5, 30, 1000, 30_000])
            shown += keys.feed(text[at : at + size])
            at += size
        assert shown + keys.flush() == masked(text)

    def test_text_that_is_no_marker_does_not_wait(self):
        keys = KeyMasker()
        assert keys.feed("a line -----\n") == "a line -----\n"
        assert keys.feed("half a line") == "half a line"

    def test_the_rest_of_a_key_whose_beginning_is_gone(self):
        rest = KEY[100:]
        assert rest_of_key(rest + "\nafter") == rest.index("-----END")
        assert rest_of_key(f"plain\n{KEY}") == 0
        assert rest_of_key("plain\n") == 0
        assert rest_of_key("x" * KEY_LIMIT + rest) == 0


# What each pattern could be led to try at every place again: repeated beginnings, and beginnings that never end.
EVIL = [
    "a",
    "-",
    " ",
    "\\",
    '"',
    "eyJ",
    "eyJaaaaa",
    "eyJaaaaa.",
    "eyJaaaaa.aaa.",
    "eyJaaaaa.eyJ",
    "://",
    "://a:",
    "://a:b@",
]
EVIL += [
    "password",
    "password=",
    'password="',
    'password="\\a',
    "password=\\'",
    "token=a&a",
    "token=a,",
    "pass",
    "secret_",
]
EVIL += [
    "-----BEGIN ",
    "-----BEGIN PRIVATE KEY",
    "-----END ",
    "authorization: bearer ",
    "authorization ",
    "&a",
    "•",
    MASK,
]
EVIL += ["ghp_", "github_pat_", "glpat-xox", "xoxb-", "AKIA", "password \t", "api_api_key", "\n"]


@pytest.mark.parametrize("evil", EVIL)
def test_twice_the_text_takes_no_more_than_about_twice_the_time(evil):
    def work(size):
        return min(_cpu_seconds(masked, evil * (size // len(evil))) for _ in range(2))

    # A quadratic pattern would take four times as long and, at this size, minutes.
    # One measurement may be disturbed by whatever else this host does.
    assert any(work(500_000) < 3.3 * work(250_000) + 0.02 for _ in range(3))


def _cpu_seconds(function, *args):
    before = time.process_time()
    function(*args)
    return time.process_time() - before
