"""The page of a job that was overtaken: other jobs have put another version on its machines since."""

import pytest

from jobs.models import Membership
from jobs.rights import Role
from releases.models import ReleaseStage
from tests.conftest import list_machines, stage_of
from tests.pages import page, source, words

pytestmark = pytest.mark.one_database
CARRY = "of its machines now carr"


@pytest.fixture
def shown(as_user, publisher):
    return lambda job: words(as_user(publisher).get(page("job", job)))


@pytest.fixture
def release(start, finish):
    def release(job, machines, kind="pre-release"):
        start(job, machines, kind)
        finish()

    return release


def test_a_released_job_names_those_that_came_after_it(shown, make_job, machines, release):
    job, next_one, last = (make_job(version) for version in ("2.0", "3.0", "4.0"))
    release(job, machines)
    assert CARRY not in shown(job)
    release(next_one, machines[:3])
    release(last, machines[2:3])
    said = shown(job)
    assert f"1 of its machines now carries 4.0, put there by #{last.pk} payment 4.0" in said
    assert f"2 of its machines now carry 3.0, put there by #{next_one.pk} payment 3.0" in said
    assert f"1 of its machines now carries 4.0, put there by #{last.pk} payment 4.0" in shown(next_one)
    assert CARRY not in shown(last)


def test_so_does_one_that_has_not_begun(shown, make_job, machines, release):
    job, next_one = make_job("2.0"), make_job("3.0")
    release(next_one, machines[:2])
    assert f"2 of its machines now carry 3.0, put there by #{next_one.pk} payment 3.0" in shown(job)


def test_it_is_a_warning_until_the_job_is_over(as_user, publisher, make_job, machines, release):
    over, approved, unread, later = make_job("2.0"), make_job("2.1"), make_job("2.2", approved=False), make_job("3.0")
    release(over, machines)
    release(later, machines[:2])
    told = '<p class="{}"><span>2 of its machines now carry 3.0'
    assert told.format("mut") in source(as_user(publisher).get(page("job", over)))
    for job in (approved, unread):
        assert told.format("status changed") in source(as_user(publisher).get(page("job", job)))


def test_what_an_earlier_job_put_there_before_it_is_not_told(shown, make_job, machines, release):
    earlier, job = make_job("1.0"), make_job("2.0")
    release(earlier, machines)
    assert CARRY not in shown(job)


def test_but_what_an_earlier_job_put_there_after_it_is(shown, make_job, machines, release, publisher, finish):
    earlier, job = make_job("1.5"), make_job("2.0")
    release(earlier, machines[:2])
    release(job, machines)
    stage_of(earlier).roll_back(publisher, machines[:2], "broken", "undo", undo_later=True)
    finish()
    assert f"2 of its machines now carry –, put there by #{earlier.pk} payment 1.5" in shown(job)
    release(earlier, machines[2:3])
    assert f"1 of its machines now carries 1.5, put there by #{earlier.pk} payment 1.5" in shown(job)


def test_the_same_version_or_a_rollback_to_it_is_no_other(shown, make_job, machines, release, publisher, finish):
    job, same, later = make_job("2.0"), make_job("2.0"), make_job("3.0")
    release(job, machines)
    release(same, machines[:2])
    release(later, machines[2:4])
    stage_of(later).roll_back(publisher, machines[2:4], "broken", "back")
    finish()
    assert CARRY not in shown(job)


def test_an_excused_machine_is_not_among_them(shown, make_job, machines, release, publisher):
    job, later = make_job("2.0"), make_job("3.0")
    release(job, machines[1:])
    ReleaseStage.objects.excuse(job, machines[:1], publisher, "scrapped")
    release(later, machines[:2])
    assert "1 of its machines now carries 3.0" in shown(job)


def test_of_many_jobs_the_latest_are_named(shown, make_job, machines, release):
    job = make_job("1.0")
    release(job, machines)
    later = [make_job(f"{number}.0") for number in range(2, 7)]
    for other, machine in zip(later, machines, strict=False):
        release(other, [machine])
    said = shown(job)
    assert [other.version for other in later if f"now carries {other.version}," in said] == ["4.0", "5.0", "6.0"]
    assert "Other jobs have changed 5 of its machines since, these among them." in said


def test_a_job_of_another_business_is_none(shown, make_job, machines, release, orders, approver, publisher):
    job = make_job("2.0")
    release(job, machines)
    for user, role in ((approver, Role.APPROVER), (publisher, Role.PUBLISHER)):
        Membership.objects.create(user=user, business=orders, role=role)
    release(make_job("9.0", business=orders, on=list_machines(orders, "pay-1", "pay-2")), machines[:2])
    assert CARRY not in shown(job)
