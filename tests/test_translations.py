"""The Chinese catalogue: complete, in step with what is marked in Python, and compiled."""

import ast
import json
import re
from pathlib import Path

import polib
import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.utils import timezone
from django.utils.translation import gettext, override
from django.views.i18n import JSONCatalog

from deploy_portal.templatetags.portal import STATUS_WORDS
from jobs.models import Event, Freeze, JobMachine, Leave, Machine
from jobs.rights import Right

PO_FILE = settings.BASE_DIR / "locale/zh_Hans/LC_MESSAGES/django.po"
PO = polib.pofile(PO_FILE)
MO = polib.mofile(PO_FILE.with_suffix(".mo"))
STALE = "Run manage.py makemessages --locale zh_Hans --no-location, translate, and run manage.py compilemessages."

# %(name)s, %d, and %%d, which a template gives on to JavaScript as %d; {name} of str.format.
PLACEHOLDER = re.compile(r"%{1,2}(?:\([a-z_]+\))?[-+#0]*[0-9]*(?:\.[0-9]+)?[a-zA-Z]|{[a-z_]*}")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
MARKERS = {"gettext_noop", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy", "pgettext", "pgettext_lazy"}


def translations(entry):
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


def contents(catalogue):
    return {(entry.msgctxt, entry.msgid, entry.msgid_plural): translations(entry) for entry in catalogue}


def labels():
    """Each word for a state, a role, a right or another choice that pages show, by where it is from."""
    found = {f"STATUS_WORDS {key}": word for key, word in STATUS_WORDS.items()}
    found |= {f"Right {right.value}": right.label for right in Right}
    for app in ("jobs", "releases"):
        for model in apps.get_app_config(app).get_models():
            for field in model._meta.fields:
                found |= {f"{field} {value}": word for value, word in field.flatchoices}
    return found


def marked(*folders):
    """The marker, context and text of all that Python files below `folders` mark for translation."""
    for folder in folders:
        for path in sorted((settings.BASE_DIR / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            names = {
                alias.asname or alias.name: alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
                for alias in node.names
                if alias.name in MARKERS
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                    marker = names[node.func.id]
                    *context, text = map(ast.literal_eval, node.args[: 2 if marker.startswith("pgettext") else 1])
                    yield marker, *(context or [None]), text


def test_every_message_is_translated():
    assert not [entry.msgid for entry in PO if not all(text.strip() for text in translations(entry))]


def test_chinese_has_one_plural_form():
    assert not [entry.msgid for entry in PO if entry.msgid_plural and list(entry.msgstr_plural) != [0]]


def test_nothing_is_fuzzy_or_obsolete():
    assert not PO.metadata_is_fuzzy
    assert not [entry.msgid for entry in [*PO.fuzzy_entries(), *PO.obsolete_entries()]]


def test_header_is_filled_in_and_names_no_address():
    assert PO.metadata["Language"] == "zh_Hans"
    assert PO.metadata["Plural-Forms"] == "nplurals=1; plural=0;"
    assert not re.search(r"@|PACKAGE|YEAR|FULL NAME", PO.header + "".join(PO.metadata.values()))


def test_placeholders_are_those_of_the_source():
    wrong = {
        text: entry.msgid
        for entry in PO
        for text in translations(entry)
        # The one Chinese form stands for the plural; the English singular may do without the number.
        if set(PLACEHOLDER.findall(text)) != set(PLACEHOLDER.findall(entry.msgid_plural or entry.msgid))
    }
    assert not wrong


def test_the_space_behind_a_colon_is_part_of_the_text():
    """Chinese has none there: its colon is as wide as a character."""
    folder = settings.BASE_DIR / "templates"
    behind = re.compile(r"[^{]:(?:[\"'] *%}|{% endblocktranslate %})(?:</?[a-z]+>)* +\S|{% translate [\"']:[\"'] %}")
    assert not [path.name for path in folder.rglob("*.html") if behind.search(path.read_text())]


def test_compiled_catalogue_says_what_its_source_says():
    assert contents(MO) == contents(PO), STALE
    scripts = PO_FILE.with_name("djangojs.po")
    assert contents(polib.mofile(scripts.with_suffix(".mo"))) == contents(polib.pofile(scripts)), STALE
    assert MO.metadata["Plural-Forms"] == PO.metadata["Plural-Forms"], STALE


def test_what_the_scripts_of_the_admin_say_is_chinese(rf):
    """Also what Django itself has no Chinese for."""
    english = polib.pofile(Path(admin.__file__).with_name("locale") / "en/LC_MESSAGES/djangojs.po")
    with override("zh-hans"):
        given = json.loads(JSONCatalog.as_view(packages=["django.contrib.admin"])(rf.get("/")).content)
    assert not [entry.msgid for entry in english if not entry.msgctxt and entry.msgid not in given["catalog"]]


@pytest.mark.parametrize(("where", "label"), labels().items())
def test_words_of_states_and_choices_are_chinese(where, label):
    with override("en"):
        english = str(label)
    with override("zh-hans"):
        assert str(label) != english
        assert CHINESE.search(str(label))


@pytest.mark.parametrize(
    "row", [Leave(job_id=12, until=timezone.now()), JobMachine(job_id=12, machine=Machine(hostname="pay-1"))]
)
def test_a_row_that_belongs_to_others_is_named_in_chinese(row):
    with override("zh-hans"):
        assert CHINESE.search(str(row))


def test_reasons_kept_in_the_database_have_a_translation():
    reasons = [text for marker, _context, text in marked("releases") if marker == "gettext_noop"]
    assert len(reasons) > 20
    with override("zh-hans"):
        assert not [reason for reason in reasons if not CHINESE.search(gettext(reason))], STALE


def test_every_text_marked_in_python_is_in_the_catalogue():
    known = {(entry.msgctxt, entry.msgid) for entry in PO}
    found = {(context, text) for _marker, context, text in marked("deploy_portal", "jobs", "releases")}
    assert not found - known, STALE


@pytest.mark.parametrize(("time", "state"), [("starts_at", "was"), ("ends_at", "became")])
def test_from_and_to_are_other_words_for_times_than_for_states(time, state):
    with override("zh-hans"):
        assert Freeze._meta.get_field(time).verbose_name != Event._meta.get_field(state).verbose_name
