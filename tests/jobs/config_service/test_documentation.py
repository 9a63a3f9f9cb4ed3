"""docs/config-service.md names every source and every option, and its examples work."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.utils.module_loading import import_string

TEXT = (settings.BASE_DIR / "docs/config-service.md").read_text(encoding="utf-8")


@pytest.fixture
def section(source):
    """What the document says of `source`."""
    [text] = re.findall(rf"^## `{source}`: .*?(?=^## )", TEXT, re.DOTALL | re.MULTILINE)
    return text


@pytest.mark.parametrize("source", settings.CONFIG_SOURCES)
def test_every_option_is_documented(source, section):
    options = import_string(settings.CONFIG_SOURCES[source]).OPTIONS
    assert {name for name in options if f"`{name}`" not in section} == set()


@pytest.mark.parametrize("source", settings.CONFIG_SOURCES)
def test_the_examples_can_work(source, section, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    for variable in re.findall("CONFIG_TOKEN_[A-Z]+", section):
        # It may be anything: a token, credentials as JSON, or a name and a password with a colon between.
        monkeypatch.setenv(variable, '{"bk_app_code": "portal", "bk_app_secret": "a-token"}')
    examples = re.findall(r'^    (\{"(?:url|path)".*?\})\n\n', section, re.DOTALL | re.MULTILINE)
    assert examples
    for example in examples:
        assert import_string(settings.CONFIG_SOURCES[source]).check(json.loads(example)) == []
