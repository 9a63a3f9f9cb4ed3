"""What the documents name exists, and what exists is documented."""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = "".join((ROOT / "deploy_portal" / name).read_text() for name in ("settings.py", "other_logins.py"))
EXAMPLE = (ROOT / ".env.example").read_text()

READERS = r"env\.(?:text|flag|choices?|number|words|secret|time_zone|database|mail)|_required|_address"
READ = set(re.findall(rf'(?:{READERS})\(\s*"([A-Z_]+)"', SETTINGS))
SHOWN = set(re.findall(r"^#?([A-Z][A-Z_]+)=", EXAMPLE, re.MULTILINE))


def test_every_environment_variable_is_in_the_example():
    assert READ == SHOWN


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))],
    ids=lambda page: page.name,
)
def test_files_and_commands_that_a_document_names_exist(page):
    text = page.read_text()
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert [name for name in linked if not (page.parent / name).exists()] == []
    commands = set(re.findall(r"manage\.py (\w+)", text))
    ours = {path.stem for path in ROOT.glob("*/management/commands/*.py")}
    django = {"migrate", "createsuperuser", "collectstatic", "check", "makemessages", "compilemessages", "runserver"}
    assert commands <= ours | django | {"makemigrations", "dumpdata", "loaddata", "axes_reset_logs"}


def test_every_command_is_explained():
    ours = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")}
    explained = (ROOT / "docs/operations.md").read_text()
    assert [name for name in ours if not re.search(rf"\b{name}\b", explained)] == []


def test_options_that_the_documents_name_exist():
    documents = "".join(page.read_text() for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    for name, arguments in re.findall(r"manage\.py (\w+)([^`#|\n]*)", documents):
        command = load_command_class(get_commands()[name], name)
        known = command.create_parser("manage.py", name)._option_string_actions
        assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", arguments)) <= known.keys(), name


def test_every_package_is_explained():
    listed = "\n".join((ROOT / name).read_text() for name in ("requirements.txt", "tests/requirements.txt"))
    explained = (ROOT / "docs/dependencies.md").read_text()
    assert [name for name in re.findall(r"^\w[\w-]*", listed, re.MULTILINE) if name not in explained] == []
