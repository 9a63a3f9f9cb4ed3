"""Secrets in what a machine says, masked before it is stored: those the portal knows, and what is shaped like one.

Every pattern is linear: what repeats is bounded, possessive or at the end, and none begins with what repeats. Only sets
of characters are possessive: of a group, the Python of Debian 12 (3.11.2) takes more than what matched.
"""

import contextlib
import os
import re
from urllib.parse import quote

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from deploy_portal import env

MASK = "••••••"
# Masking "1" would ruin every log.
LEAST = 6
# What variables that are secret held when they could be read last.
LAST_READ = {}
# The longest private key that is waited for to end; a marker with no key behind it must not mask the rest of a log.
KEY_LIMIT = 20_000
# A marker of a key that may have been cut in two is no longer than that.
MARKER = 48
KEY_BEGIN = re.compile(r"----[- ]BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY")
KEY_END = re.compile(r"----[- ]END [A-Z0-9 ]{0,24}PRIVATE KEY")
CUT_MARKER = re.compile(r"-{1,5} ?[A-Z0-9 ]{0,40}\Z")

_NAMES = ["pass(?:word|wd|phrase)", "pwd(?<=[_;-]pwd)", "token", "secret(?:[_-]?key)?", "credentials?"]
_NAMES += ["api[_-]?key", "access[_-]?key", "private[_-]?key"]
# First letters stand outside of what ignores case, so that the search can skip to them.
_NAME = "|".join(f"{first}(?i:{name[1:]})" for name in _NAMES for first in (name[0], name[0].upper()))
# A name may be the mask itself, where somebody's password is "password".
ASSIGNMENT = re.compile(
    rf"""
    (?P<name> (?: {_NAME} | {MASK} ) (?:\\{{0,3}}["'])? [ \t]{{0,8}} (?: => | :?= | : ) [ \t]{{0,8}} )
    (?: (?P<quote> \\{{1,3}}["'] ) [^"'\\\n]*+
      | (?P<double> " ) (?: [^"\\\n]++ | \\. )*
      | (?P<single> ' ) (?: [^'\\\n]++ | \\. )*
      | (?: [^\s"'&,;]++ | ["'](?=\w) | [&,;](?![\w.%-]{{1,40}}=) )+ )
    """,
    re.VERBOSE,
)
AUTHORIZATION = re.compile(
    r"""((?:a|A)(?i:uthorization\\{0,3}["']?[ \t]{0,8}[:=][ \t]{0,8}\\{0,3}["']?(?:bearer|basic|token)[ \t]{1,8}))"""
    r"""[^\s"'\\]++"""
)
# The user and password of an address; a password may itself hold an @.
IN_ADDRESS = re.compile(r"""(://[^\s/:@"']{0,128}:)[^\s/"']{1,256}(?=@)""")
# What goes on right behind a mask is the rest of a secret that came in two parts.
TOKEN = re.compile(
    rf"""(?: (?:AKIA|ASIA)[A-Z0-9]{{16}}
           | gh[oprsu]_[A-Za-z0-9]{{20,}}+
           | github_pat_\w{{20,}}+
           | glpat-[\w-]{{16,}}+
           | xox[abpors]-[\w-]{{10,}}+
           | eyJ(?<![\w-]eyJ)[\w-]{{5,}}+\.(?:eyJ[\w-]{{5,}}+|[\w-]*+(?=\.[\w-]))(?:\.[\w-]*+){{0,3}}
           | {MASK}[\w.-]++ )""",
    re.VERBOSE | re.ASCII,
)


def masked(text):
    """The whole of a text with its secrets masked."""
    if not text:
        return ""
    keys = KeyMasker()
    return Masker()(keys.feed(text) + keys.flush())


def known_secrets():
    """The secrets of the portal itself as they may turn up in a log, longest first."""
    known = {settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS}
    for database in settings.DATABASES.values():
        password = database.get("PASSWORD") or ""
        known |= {password, quote(password, safe="")}
    known |= {_value_of(name) for name in _secret_variables()}
    # A secret of several lines is masked line by line, as a log has it.
    lines = {line.strip() for secret in known for line in secret.splitlines()}
    return sorted((line for line in lines if len(line) >= LEAST), key=lambda line: (-len(line), line))


def _secret_variables():
    prefix = settings.CONFIG_SERVICE_TOKEN_PREFIX
    return {name.removesuffix("_FILE") for name in os.environ if name.startswith(prefix)} | {*settings.MASKED_VARIABLES}


def _value_of(variable):
    """Its value or, while that cannot be read, as where no file can be opened, the last one that could."""
    with contextlib.suppress(ImproperlyConfigured):
        LAST_READ[variable] = env.secret(variable)
    return LAST_READ.get(variable, "")


class Masker:
    """Masks all but private keys in whole lines; text that was masked already stays as it is."""

    def __init__(self):
        self.secrets = known_secrets()

    def __call__(self, text):
        for secret in self.secrets:
            text = text.replace(secret, MASK)
        text = AUTHORIZATION.sub(rf"\1{MASK}", text)
        text = ASSIGNMENT.sub(_assigned, text)
        if "://" in text:
            text = IN_ADDRESS.sub(rf"\1{MASK}", text)
        return TOKEN.sub(MASK, text)


def _assigned(match):
    return match["name"] + (match["quote"] or match["double"] or match["single"] or "") + MASK


def rest_of_key(text):
    """How much of a text whose beginning was cut off belongs to a private key that had begun by then."""
    end = KEY_END.search(text, 0, KEY_LIMIT)
    return end.start() if end and not KEY_BEGIN.search(text, 0, end.start()) else 0


class KeyMasker:
    """Masks the private keys in one stream of text, however it is split; `flush` gives what it held back."""

    def __init__(self):
        self.held = ""
        self.left = 0

    def feed(self, text):
        text, self.held = self.held + text, ""
        kept, at = [], 0
        while at < len(text):
            piece, at = self._skip(text, at) if self.left else self._pass(text, at)
            kept.append(piece)
        return "".join(kept)

    def flush(self):
        text, self.held = self.held, ""
        return "" if self.left else text

    def _pass(self, text, at):
        """What stands before the next key, and where that begins."""
        if begin := KEY_BEGIN.search(text, at):
            self.left = KEY_LIMIT
            return f"{text[at : begin.end()]} {MASK} ", begin.end()
        cut = CUT_MARKER.search(text, max(at, len(text) - MARKER))
        end = cut.start() if cut else len(text)
        self.held = text[end:]
        return text[at:end], len(text)

    def _skip(self, text, at):
        """Nothing, and where the key ends or, when it does not end here, what may be half of its last marker."""
        if end := KEY_END.search(text, at, at + self.left + MARKER):
            self.left = 0
            return "", end.start()
        rest = len(text) - at
        if rest - MARKER >= self.left:
            at, self.left = at + self.left, 0
            return "", at
        going = max(0, rest - MARKER)
        self.left -= going
        self.held = text[at + going :]
        return "", len(text)
