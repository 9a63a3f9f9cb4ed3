"""What the tests of the pages share: where a page is, what its form sends, and what a person reads there."""

import html
import re

from django.urls import reverse

from releases import tokens
from releases.models import ReleaseStage, Task

# What is no choice of machines, and what every page with such a choice says to it.
NO_MACHINES = [
    (None, "Choose at least one machine."),
    ([""], "Choose at least one machine."),
    (["", ""], "Choose at least one machine."),
    (["x"], "This is not a machine's id"),
    (["-1"], "This is not a machine's id"),
    (["9" * 40], "This is not a machine's id"),
    (["$(reboot)"], "This is not a machine's id"),
    (["<script>alert(1)</script>"], "This is not a machine's id"),
    (["1\0"], "This is not a machine's id"),
]


def page(name, job, **where):
    """The address of the page `name` of `job`; a stage page is that of the pre-release unless told."""
    if "stage" in name:
        where.setdefault("kind", "pre-release")
    return reverse(name, kwargs={"job_id": job.pk, **where})


def words(response):
    """What the page says, without its tags, in one line; names and titles in attributes are not in it."""
    text = re.sub(r"<(script|style|template)\b.*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())


def source(response):
    """The page as it was sent, with `&lt;` and the like read as what they stand for."""
    return html.unescape(response.content.decode())


def asks_again_for(response, address, typed):
    """Whether this is the page of the step at `address`, with what was typed as its reason still there."""
    return response.request["PATH_INFO"] == address and re.search(
        rf'name="reason"[^>]*?(?:value="|>\s*){re.escape(html.escape(typed))}["<]', response.content.decode()
    )


def came_too_late(response, typed):
    """Whether this says that a step came too late, and shows what was typed for it."""
    return response.status_code == 409 and f"What you typed for it is not kept: {typed} See" in words(response)


def offered(response):
    """The ids of the machines that a page offers to choose."""
    boxes = re.findall(r'<input type="checkbox" name="machines" value="(\d+)"', response.content.decode())
    return {int(value) for value in boxes}


def checked(response):
    """The ids of the machines that are chosen already."""
    boxes = re.findall(r'<input type="checkbox" name="machines" value="(\d+)"[^>]* checked', response.content.decode())
    return {int(value) for value in boxes}


def token_in(response):
    return re.search(r'name="token" value="([^"]+)"', response.content.decode())[1]


def ids(machines):
    return [machine.pk for machine in machines]


def stage_fields(job, user, machines, kind="pre-release", /, **changed):
    """What the stage form sends, with a token made for it; `token=None` leaves a field out."""
    stage = ReleaseStage.objects.of_kind(job, kind)
    job.refresh_from_db()
    fields = {
        "step": "start",
        "token": tokens.issue(user, job, kind, stage.version),
        "release_task": Task.objects.get(name="deploy").pk,
        "rollback_task": Task.objects.get(name="roll-back").pk,
        "machines": ids(machines),
        "remark": "as planned",
        "batch_size": "",
        "failure_budget": "1",
    }
    return without_nones(fields | changed)


def without_nones(fields):
    return {name: value for name, value in fields.items() if value is not None}


def is_sent_to_login(response, address):
    return (
        response.status_code == 302
        and response.url.removesuffix("&ended=unsent") == f"{reverse('login')}?next={address}"
    )
