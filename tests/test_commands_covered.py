from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

TESTS = Path(__file__).parent
OURS = sorted((app, name) for name, app in get_commands().items() if app in ("deploy_portal", "jobs", "releases"))


def test_there_are_commands_to_look_for():
    assert ("releases", "release_worker") in OURS


@pytest.mark.parametrize(("app", "name"), OURS)
def test_every_command_has_a_test_file_of_its_own(app, name):
    assert list((TESTS / app).rglob(f"test_{name}.py")), f"There is no test_{name}.py below tests/{app}."


@pytest.mark.parametrize(("app", "name"), OURS)
def test_every_command_takes_options_in_full_only(app, name):
    """What a script had shortened would be another option, or none, once there is a new one."""
    assert not load_command_class(app, name).create_parser("manage.py", name).allow_abbrev
