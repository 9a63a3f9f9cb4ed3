"""A stage page with all of 10,000 machines chosen, beside the widget and the field that Django has for it, in one run:

    .venv/bin/python -m tests.benchmarks.machine_lists [--machines 10000] [--rounds 3]

The portal's times are those of the whole page: session, rights, queries, template, gzip. Django's are those of a page
that is nothing but a form with a ModelMultipleChoiceField and its CheckboxSelectMultiple, over the same queryset.
Prints medians of the time on the server, their ratio, and what goes over the wire; machines are noisy: read the ratio.
"""

import argparse
import os
import statistics
import tempfile
import time
from gzip import compress
from pathlib import Path

SITES = ["bj-1", "bj-2", "gz-1", "sh-1", "sh-2"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        enter(Path(folder))
        job, publisher = job_on(options.machines)
        portal, plain = _Portal(job, publisher), _Django(job)
        rounds = [(portal.show(), portal.send(), plain.show(), plain.send()) for _ in range(options.rounds)]
    _tell(options.machines, *zip(*rounds, strict=True))


def enter(folder):
    """Sets the portal up as in production, with an empty database in `folder`."""
    import django
    from django.core.management import call_command

    os.environ.update(
        DJANGO_SETTINGS_MODULE="deploy_portal.settings",
        STATIC_ROOT=str(folder / "static"),
        DATABASE_URL=f"sqlite:///{folder / 'benchmark.sqlite3'}",
        SECRET_KEY="benchmark" * 8,  # noqa: S105
        DEBUG="0",
        ALLOWED_HOSTS="testserver",
    )
    django.setup()
    call_command("collectstatic", verbosity=0, interactive=False)
    call_command("migrate", verbosity=0)


def rows(number):
    """What a config service could give for so many machines."""
    from jobs.config_service.rows import MachineRow

    return [_row(MachineRow, n) for n in range(number)]


def _row(kind, n):
    site = SITES[n * len(SITES) // 10_000 % len(SITES)]
    address = f"10.{20 + n // 62_500}.{n // 250 % 250}.{n % 250 + 1}"
    labels = {"site": site, "rack": f"r{n // 40 % 250:03}"}
    return kind(hostname=f"web-{n:05}.{site}.example.com", address=address, port=22, user="", labels=labels, site=site)


def job_on(number):
    """An approved job for so many machines, and its publisher."""
    from django.db.models.functions import Now

    from deploy_portal.models import User
    from jobs.models import Business, Job, Listing, Machine, Membership
    from jobs.rights import Role
    from releases.models import Action, Task

    business = Business.objects.create(slug="payment", name="Payment", source="file")
    Listing.objects.take(business, rows(number))
    Business.objects.update(asked_at=Now(), synced_at=Now())
    people = [User.objects.create_user(role) for role in Role]
    Membership.objects.bulk_create(Membership(user=user, business=business, role=user.username) for user in people)
    for name, action in (("deploy", Action.RELEASE), ("roll-back", Action.ROLLBACK)):
        Task.objects.create(name=name, action=action).revise("echo done", None)
    by = {user.username: user for user in people}
    job = Job(business=business, title="Benchmark", version="2.0")
    job.ask(by[Role.REQUESTER], list(Machine.objects.live_in(business)))
    job.approve(by[Role.APPROVER])
    return job, by[Role.PUBLISHER]


class _Portal:
    """The stage page of a job as its publisher sees it, and what its form sends."""

    def __init__(self, job, publisher):
        from django.test import Client

        self.job, self.publisher = job, publisher
        self.client = Client(headers={"Accept-Encoding": "gzip"})
        self.client.force_login(publisher)
        self.address = f"/jobs/{job.pk}/stages/pre-release/"

    def show(self):
        return _timed(lambda: self.client.get(self.address, secure=True))

    def send(self):
        """The step that checks what was chosen: all of them."""
        from jobs.fields import in_short
        from jobs.models import Machine
        from tests.pages import stage_fields

        chosen = in_short(Machine.objects.filter(jobs=self.job).values_list("pk", flat=True))
        fields = stage_fields(self.job, self.publisher, [], step="check", machines=chosen)
        return _timed(lambda: self.client.post(self.address, fields, secure=True))


class _Django:
    """A form that has the field and widget which come with Django, over the machines that the stage offers."""

    def __init__(self, job):
        from django import forms

        from releases.models import ReleaseStage

        offered = ReleaseStage.objects.of_kind(job, "pre-release").offered_machines()

        class PlainForm(forms.Form):
            machines = forms.ModelMultipleChoiceField(offered, widget=forms.CheckboxSelectMultiple)

        self.form, self.chosen = PlainForm, [str(pk) for pk in offered.values_list("pk", flat=True)]

    def show(self):
        return _timed(lambda: compress(self.form(initial={"machines": self.chosen}).as_p().encode(), 6))

    def send(self):
        """Validates all of them, and gets them as instances."""
        form = self.form({"machines": self.chosen})
        return _timed(lambda: form.is_valid() and list(form.cleaned_data["machines"]) and b"")


def _timed(ask):
    began = time.process_time()
    answer = ask()
    took = time.process_time() - began
    if getattr(answer, "status_code", 200) != 200:
        raise SystemExit(f"answered {answer.status_code}: {answer.content[:2000]}")
    return took, len(getattr(answer, "content", answer))


def _tell(machines, *measured):
    shown, sent, plain_shown, plain_sent = (statistics.median(took for took, _ in rounds) for rounds in measured)
    sizes = [rounds[-1][1] / 1000 for rounds in measured]
    print(f"{machines} of {machines} machines, medians of {len(measured[0])}")
    print(f"portal: page {shown * 1000:.0f} ms, {sizes[0]:.0f} kB gzipped; POST {sent * 1000:.0f} ms")
    print(f"Django: page {plain_shown * 1000:.0f} ms, {sizes[2]:.0f} kB gzipped; POST {plain_sent * 1000:.0f} ms")
    print(f" ratio: page {plain_shown / shown:.0f}, POST {plain_sent / sent:.0f}, ", end="")
    print(f"both {(plain_shown + plain_sent) / (shown + sent):.0f}")


if __name__ == "__main__":
    main()
