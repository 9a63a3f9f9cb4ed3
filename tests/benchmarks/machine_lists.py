"""A stage page with all of 10,000 machines chosen, beside the widget and the field that Django has for it, in one run:

    .venv/bin/python -m tests.benchmarks.machine_lists [--machines 10000] [--rounds 3] [--releases 0]

Three requests, of which the CPU time on the server is taken: the page, a POST that leads to the next step, and one that
fails and shows the page again. Django's page is nothing but a form with a ModelMultipleChoiceField and its
CheckboxSelectMultiple over the same queryset, behind the same middleware; its next step names the machines and carries
them in hidden fields, as the portal's does. So many `--releases` of the same machines are in the ledger already, which
must not make a page much slower. Machines are noisy: read the ratio of the medians.
"""

import argparse
import importlib
import os
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import urlencode

SITES = ["bj-1", "bj-2", "gz-1", "sh-1", "sh-2"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--releases", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        enter(Path(folder))
        job, publisher = job_on(options.machines)
        for n in range(options.releases):
            _release_before(job, f"1.{n}")
        pages = [_Portal(job, publisher), _Django(job, publisher)]
        rounds = [[_asked(page) for page in pages] for _ in range(options.rounds)]
    _tell(options.machines, *zip(*rounds, strict=True))


def enter(folder):
    """Sets the portal up as in production, with an empty database in `folder`."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    os.environ.update(
        DJANGO_SETTINGS_MODULE="deploy_portal.settings",
        STATIC_ROOT=str(folder / "static"),
        DATABASE_URL=f"sqlite:///{folder / 'benchmark.sqlite3'}",
        SECRET_KEY="benchmark" * 8,
        DEBUG="0",
        ALLOWED_HOSTS="testserver",
    )
    django.setup()
    # Django's field comes as one value per machine, which its default forbids.
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = None
    call_command("collectstatic", verbosity=0, interactive=False)
    call_command("migrate", verbosity=0)
    importlib.import_module("deploy_portal.wsgi")


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
    job = Job(business=business, title="Benchmark", version="2.0", plan_pre_release="100 %")
    job.ask(by[Role.REQUESTER], list(Machine.objects.live_in(business)))
    job.approve(by[Role.APPROVER])
    return job, by[Role.PUBLISHER]


def _release_before(job, version):
    """What the ledger keeps of an earlier job for the same machines, all of which were released."""
    from django.utils.timezone import now

    from jobs.models import Job
    from releases.models import MachineRun, ReleaseStage, Run, Task

    machines = list(job.machines.all())
    old = Job(business=job.business, title="Before", version=version)
    old.ask(job.requester, machines)
    task = {"action": "release", "task_version": Task.objects.get(action="release").latest, "timeout": 600}
    run = Run.objects.create(
        stage=ReleaseStage.objects.of(old)[0], status="succeeded", submit_key=version, started_by=job.requester, **task
    )
    told = {"run": run, "status": "succeeded", "version_after": version, "started_at": now(), "ended_at": now()}
    there = [{"machine": one, "address": one.address, "port": one.port, "site": one.site} for one in machines]
    MachineRun.objects.bulk_create([MachineRun(**told, **one) for one in there], batch_size=500)


class _Page:
    """A page and what its form sends, asked for as a browser does."""

    def __init__(self, publisher, address, chosen):
        from django.test import Client

        self.client, self.address, self.chosen = Client(headers={"Accept-Encoding": "gzip"}), address, chosen
        self.client.force_login(publisher)

    def show(self):
        return lambda: self.client.get(self.address, secure=True)

    def send(self, **changed):
        """`changed` is put over what makes a form without errors."""
        body = urlencode(self.chosen | changed, doseq=True)
        kind = "application/x-www-form-urlencoded"
        return lambda: self.client.post(self.address, body, content_type=kind, secure=True)


class _Portal(_Page):
    """The stage page of a job as its publisher sees it, and the step that checks what was chosen."""

    def __init__(self, job, publisher):
        from jobs.fields import in_short
        from tests.pages import ids, stage_fields

        machines = in_short(ids(job.machines.all()))
        fields = stage_fields(job, publisher, [], step="check", machines=machines)
        super().__init__(publisher, f"/jobs/{job.pk}/stages/pre-release/", fields)


class _Django(_Page):
    """A page that is a form with the field and widget which come with Django."""

    def __init__(self, job, publisher):
        from django.urls import path

        from deploy_portal.urls import urlpatterns
        from tests.pages import ids

        urlpatterns.append(path("stock/", _stock_page(job)))
        super().__init__(publisher, "/stock/", {"remark": "as planned", "machines": ids(job.machines.all())})


def _stock_page(job):
    from django import forms
    from django.contrib.auth.decorators import login_required
    from django.http import HttpResponse
    from django.utils.html import format_html, format_html_join
    from django.views.decorators.gzip import gzip_page

    from releases.models import ReleaseStage

    offered = ReleaseStage.objects.of_kind(job, "pre-release").offered_machines()

    class StockForm(forms.Form):
        machines = forms.ModelMultipleChoiceField(offered, widget=forms.CheckboxSelectMultiple)
        remark = forms.CharField(max_length=2000)

    @gzip_page
    @login_required
    def stock_page(request):
        form = StockForm(request.POST if request.method == "POST" else None, initial={"machines": offered})
        if not form.is_valid():
            return HttpResponse(format_html("<form>{}</form>", form))
        names = format_html_join(", ", "{}", ((machine,) for machine in form.cleaned_data["machines"]))
        return HttpResponse(format_html("<p>{}</p><form>{}</form>", names, form["machines"].as_hidden()))

    return stock_page


def _asked(page):
    """(seconds, bytes) of each request."""
    return [_timed(ask) for ask in (page.show(), page.send(), page.send(remark="x" * 2001))]


def _timed(ask):
    began = time.process_time()
    answer = ask()
    took = time.process_time() - began
    if answer.status_code != 200:
        raise SystemExit(f"answered {answer.status_code}: {answer.content[:2000]}")
    return took, len(answer.content)


def _tell(machines, *measured):
    (portal, sizes), (stock, stock_sizes) = (_medians(rounds) for rounds in measured)
    print(f"{machines} of {machines} machines, medians of {len(measured[0])}: page, POST, POST that fails")
    for name, times, kilobytes in (("portal", portal, sizes), ("Django", stock, stock_sizes)):
        print(f"{name}:", ", ".join(f"{1000 * s:.0f} ms ({kb:.0f} kB)" for s, kb in zip(times, kilobytes, strict=True)))
    ratios = ", ".join(f"{theirs / ours:.0f}" for ours, theirs in zip(portal, stock, strict=True))
    print(f" ratio: {ratios}, page and POST {sum(stock[:2]) / sum(portal[:2]):.0f}")


def _medians(rounds):
    """The median time of each request, and the size of its last answer in kB."""
    times = [statistics.median(took for took, _ in asked) for asked in zip(*rounds, strict=True)]
    return times, [size / 1000 for _, size in rounds[-1]]


if __name__ == "__main__":
    main()
