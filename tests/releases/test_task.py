import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from releases.models import Action, Task, TaskVersion
from releases.models.task import shell_script
from tests.conftest import make_task
from tests.parallel import at_once


def test_a_new_text_is_a_new_version_and_the_old_one_stays(release_task, ops):
    first = release_task.latest
    second = release_task.revise("echo other", ops)
    assert (first.number, second.number, second.author) == (1, 2, ops)
    assert list(release_task.versions.values_list("number", "script")) == [(2, "echo other"), (1, "echo done")]
    assert Task.objects.get(pk=release_task.pk).latest == second


@pytest.mark.parametrize("script", ["echo done", "echo done"])
def test_the_same_text_again_makes_no_version(release_task, script):
    assert release_task.revise(script, None).number == 1
    assert release_task.versions.count() == 1


def test_line_ends_of_a_browser_are_those_of_a_shell(release_task):
    version = release_task.revise("echo one\r\necho two\r\n", None, "echo three\r\n")
    assert (version.script, version.check_script) == ("echo one\necho two\n", "echo three\n")
    release_task.revise("echo one\necho two\n", None, "echo three\n")
    assert release_task.versions.count() == 2


def test_a_run_keeps_the_text_that_it_ran(release_task, start, job, machines):
    run = start(job, machines)
    release_task.revise("rm -rf /srv/app", None)
    run.refresh_from_db()
    assert run.task_version.script == "echo done"


def test_a_task_that_was_run_cannot_be_deleted(release_task, start, job, machines):
    start(job, machines)
    with pytest.raises(ProtectedError):
        release_task.versions.all().delete()
    with pytest.raises(ProtectedError):
        release_task.delete()


def test_offered_are_the_shared_tasks_and_those_of_the_business(payment, orders, release_task, rollback_task):
    own = make_task("own", business=payment)
    make_task("foreign", business=orders)
    make_task("retired", in_use=False)
    Task.objects.create(name="empty", action=Action.RELEASE)
    assert list(Task.objects.offered_to(payment, Action.RELEASE)) == [release_task, own]
    assert list(Task.objects.offered_to(payment, Action.ROLLBACK)) == [rollback_task]


def test_a_name_is_given_once_per_business_and_once_among_the_shared(payment, orders):
    make_task("deploy")
    make_task("deploy", business=payment)
    make_task("deploy", business=orders)
    for business in (None, payment):
        with pytest.raises(IntegrityError), transaction.atomic():
            make_task("deploy", business=business)


def test_an_action_is_one_of_the_two(db):
    with pytest.raises(IntegrityError), transaction.atomic():
        Task.objects.create(name="odd", action="destroy")


@pytest.mark.parametrize(
    "script",
    [
        "echo done",
        "",
        "#!/bin/sh\n:",
        "#!/bin/bash\n:",
        "#!/usr/bin/env bash\n:",
        "#! /bin/sh -e\n:",
        "#!/bin/bash -eux\r\n:",
        "#!/bin/dash\n:",
        "# 注释",
        "x" * 1_000_000,
    ],
)
def test_a_shell_script_is_taken(script):
    assert shell_script(script) is None


@pytest.mark.parametrize(
    "script",
    [
        "#!/usr/bin/python3\n",
        "#!/bin/zsh\n",
        "#!/usr/bin/env perl\n",
        "#!/bin/bash -l\n",
        "#!/bin/bash -euo pipefail\n",
        "#!/bin/sh -\n",
        "#!\n",
        "nul\0",
        "x" * 1_000_001,
        "中" * 333_334,
    ],
)
def test_what_a_shell_would_not_run_is_refused(script):
    with pytest.raises(ValidationError):
        shell_script(script)


@pytest.mark.django_db(transaction=True)
def test_two_who_revise_at_once_make_two_versions():
    task = make_task("deploy")
    at_once(
        lambda: Task.objects.get(pk=task.pk).revise("echo a", None),
        lambda: Task.objects.get(pk=task.pk).revise("echo b", None),
    )
    assert list(TaskVersion.objects.order_by("number").values_list("number", flat=True)) == [1, 2, 3]


def test_a_task_is_known_by_its_name_and_version(release_task):
    assert str(release_task) == "deploy · v1"
    assert str(Task(name="deploy")) == "deploy"
