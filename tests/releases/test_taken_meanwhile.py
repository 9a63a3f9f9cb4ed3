"""A machine that another job takes between the look of a command and its start: a conflict, and no mistake."""

import pytest

from releases.models import ReleaseStage, Run
from tests.commands import CONFLICT, fail


@pytest.fixture
def take(make_job, start, machines, monkeypatch):
    """Lets another job take pay-1 just before this one starts."""

    def taking(name):
        real = getattr(ReleaseStage, name)

        def first_theirs(stage, *args, **facts):
            monkeypatch.undo()
            start(other, machines[:1])
            return real(stage, *args, **facts)

        monkeypatch.setattr(ReleaseStage, name, first_theirs)

    other = make_job("3.0")
    return taking


@pytest.mark.parametrize("chosen", ["pay-1", "--all"])
def test_a_release(job, rollback_task, release_task, publisher, take, chosen):
    take("start")
    said = fail("run_stage", "--as", "publisher", job.pk, "pre-release", chosen, code=CONFLICT)
    assert said == "Not to be had now: pay-1"
    assert Run.objects.get().stage.job.version == "3.0"


def test_a_rollback(job, machines, start, finish, take):
    start(job, machines[:1])
    finish()
    take("roll_back")
    fail("rollback_stage", "--as", "publisher", "--reason", "x", job.pk, "all", code=CONFLICT)
    assert not Run.objects.filter(action="rollback").exists()
