"""Shell text as version, title, remark, host name and label: a real machine is told it and runs none of it."""

import pytest

from jobs.config_service.rows import MachineRow
from jobs.models import Business, Job, Listing, Machine
from releases.demo.fleet import ADDRESS
from releases.executors.ssh import SshExecutor
from releases.models import LogBlock, MachineRun
from tests.conftest import make_task, mark_fresh
from tests.faults.seen import ended
from tests.fleet import running_fleet

pytestmark = pytest.mark.django_db(transaction=True)

TELL = """
printf '%s|' "$DEPLOY_VERSION" "$DEPLOY_PREVIOUS_VERSION" "$DEPLOY_BUSINESS" "$DEPLOY_MACHINE"
printf %s $DEPLOY_VERSION >/dev/null
"""
SHELL_TEXT = [
    "$(touch pwned)",
    "`touch pwned`",
    "';touch pwned;'",
    '";touch pwned;"',
    "\ntouch pwned\n",
    "|touch pwned",
    "$'\\'; touch pwned #",
    "a\\",
    "${IFS}&touch${IFS}pwned&",
]


@pytest.fixture
def fleet(tmp_path, settings):
    with running_fleet(tmp_path / "fleet", [f"web-{number}" for number in range(len(SHELL_TEXT))]) as fleet:
        settings.SSH_KEY_FILES, settings.SSH_KNOWN_HOSTS = [str(fleet.client_key)], str(fleet.known_hosts)
        settings.SSH_KEEP_CONNECTIONS = 0
        yield fleet


@pytest.fixture
def jobs(fleet, payment, make_job):
    """A job for each text, which is written past every validator into whatever a machine is told."""
    places = fleet.ports.items()
    listed = [MachineRow(name, ADDRESS, port, "deploy", {"site": "sh-1"}, "sh-1") for name, port in places]
    Listing.objects.take(payment, listed)
    mark_fresh(payment)
    made = []
    for text, machine in zip(SHELL_TEXT, Machine.objects.filter(hostname__in=fleet.ports).order_by("pk"), strict=True):
        job = make_job(on=[machine], title=text, remark=text)
        Job.objects.filter(pk=job.pk).update(version=text)
        Machine.objects.filter(pk=machine.pk).update(hostname=f"{machine.hostname}{text}", labels={text: text})
        made.append(Job.objects.get(pk=job.pk))
    Business.objects.filter(pk=payment.pk).update(slug=SHELL_TEXT[0])
    return made


def test_no_shell_text_is_run_and_all_of_it_arrives(fleet, jobs, start, at_work):
    task = make_task("tell", script=TELL)
    runs = [start(job, list(job.machines.all()), release_task=task, remark=job.version) for job in jobs]
    MachineRun.objects.update(version_before=SHELL_TEXT[1])
    at_work(SshExecutor())
    assert [ended(run).status for run in runs] == ["succeeded"] * len(runs)
    assert list(fleet.folder.rglob("pwned*")) == []
    for run, text in zip(runs, SHELL_TEXT, strict=True):
        said = "".join(LogBlock.objects.filter(machine_run__run=run).values_list("text", flat=True))
        machine = run.machine_runs.get().machine
        assert said == "|".join([text, SHELL_TEXT[1], SHELL_TEXT[0], machine.hostname, ""])
