"""Calling the portal's commands as a shell would, and reading what they say."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

MISTAKE, FAILED, CONFLICT = 1, 3, 4


def say(name, *arguments):
    """What the command prints when all goes well."""
    out = StringIO()
    call_command(name, *map(str, arguments), stdout=out)
    return out.getvalue()


def say_json(name, *arguments):
    return json.loads(say(name, *arguments, "--json"))


def fail(name, *arguments, code):
    """What the command says when it fails with the exit code `code`."""
    with pytest.raises(CommandError) as caught:
        say(name, *arguments)
    assert caught.value.returncode == code, caught.value
    return str(caught.value)


def help_of(name, capsys):
    with pytest.raises(SystemExit) as ended:
        say(name, "--help")
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())
