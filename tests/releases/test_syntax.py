import os
import subprocess

import pytest

from releases.syntax import mistake_in
from tests.waiting import PATIENCE

SHELLS = {"sh": "", "bash": "#!/bin/bash\n"}
# Each makes the file when it is run.
DANGEROUS = [
    "touch {}",
    "set +n\ntouch {}",
    "cat <<EOF\n$(touch {})\nEOF",
    "cat <<EOF\n`touch {}`\nEOF",
    ': "$(touch {})" "`touch {}`"',
    ": ${{x:=$(touch {})}}",
    ": $(( $(touch {}; echo 1) ))",
    "for f in $(touch {}); do :; done",
    "f() {{ touch {}; }}; f",
    "alias if=touch\nif true; then touch {}; fi",
    "eval touch {}",
    "trap 'touch {}' EXIT",
    "exec touch {}",
    ": > {}",
    "PS4='$(touch {})'; set -x; touch {}",
    "exit 0 | touch {}",
]
LARGE = ["(", "$(", '"$(', "`", "{ ", "if ", "case x in x) ", "${a:-", "<<a;", "x", "'", "fi\n"]


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    monkeypatch.setattr("releases.syntax.TIME_LIMIT", PATIENCE)


@pytest.mark.parametrize("first", SHELLS.values(), ids=SHELLS)
def test_says_what_and_where_the_first_mistake_is(first):
    shell, line, words = mistake_in(f"{first}# 注释\nif true; then\n  echo\ndone\n")
    assert (shell, line) == ("bash" if first else "sh", "5" if first else "4")
    assert "done" in words
    assert "\n" not in words


@pytest.mark.parametrize("first", ["", "#!/bin/sh -eu\n", "#!/bin/bash\n", "#!/usr/bin/env bash\n"])
def test_says_nothing_of_a_script_without_one(first):
    assert mistake_in(f"{first}set -e\ncase $1 in a) echo 发布;; esac\ncat <<EOF\n$HOME\nEOF\n") is None
    assert mistake_in(first) is None


def test_only_bash_knows_what_is_bash_s_own():
    assert mistake_in("#!/bin/bash\nnames=(a b)\n[[ $1 =~ ^a(b|c)$ ]] && diff <(ls) <(ls)\n") is None


def test_bash_misses_the_end_of_a_text_within_a_script():
    assert mistake_in("#!/bin/bash\ncat <<EOF\nnever ended\n")[2].startswith("warning: here-document")


@pytest.mark.parametrize("shell", SHELLS)
def test_runs_none_of_it(tmp_path, monkeypatch, shell):
    """Also where a mistake comes after it, and where the portal's own environment names a file to begin with."""
    made = tmp_path / "made"
    (tmp_path / "begin").write_text(f"touch {made}")
    monkeypatch.setenv("BASH_ENV", str(tmp_path / "begin"))
    monkeypatch.setenv("ENV", str(tmp_path / "begin"))
    for text in DANGEROUS:
        script = text.format(*[made] * text.count("{}"))
        for end in ("", "\nfi\n"):
            mistake = mistake_in(SHELLS[shell] + script + end)
            assert bool(mistake) == bool(end), script
            assert not made.exists(), script
        subprocess.run([shell], input=script.encode(), env={"PATH": os.defpath}, check=False)
        assert made.exists(), script
        made.unlink()


@pytest.mark.parametrize("first", SHELLS.values(), ids=SHELLS)
@pytest.mark.parametrize("text", LARGE)
def test_bears_whatever_is_as_large_as_a_script_may_be(monkeypatch, first, text):
    """A shell may crash on it, or read for hours."""
    monkeypatch.setattr("releases.syntax.TIME_LIMIT", 0.5)
    mistake = mistake_in(first + text * (1_000_000 // len(text)))
    assert mistake is None or mistake[0] in SHELLS


def test_bears_what_is_no_text():
    assert mistake_in("echo \0\nfi\n")[1] == "2"


def test_says_nothing_where_there_is_no_shell(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "defpath", str(tmp_path))
    assert mistake_in("fi") is None
