import argparse

from django.core.management.base import CommandError

from jobs.commands import (
    CONFLICT,
    HOSTNAMES,
    MISTAKE,
    PortalCommand,
    add_once,
    business_named,
    checked,
    named_machines,
    once_key,
)
from jobs.forms import JobForm
from jobs.models import FormUsed, Job, Machine
from jobs.rights import Right


class Command(PortalCommand):
    help = "Asks for a release: opens a job for a version of a business, on machines that its config service gives."

    def create_parser(self, *args, **options):
        return super().create_parser(*args, conflict_handler="resolve", **options)

    def add_arguments(self, parser):
        super().add_arguments(parser)
        # Django's would print its own version and end with 0, as if the job had been made
        parser.add_argument("--version", dest="misplaced", type=_misplaced, help=argparse.SUPPRESS)
        parser.add_argument("business", help="the business's short name")
        parser.add_argument("version", help="what is to be released, such as 2.14.3")
        parser.add_argument("machines", nargs="*", default=[], metavar="HOSTNAME", help=HOSTNAMES)
        parser.add_argument("--all", action="store_true", help="every live machine of the business")
        parser.add_argument("--title", help="one line saying what this is (default: business and version)")
        what = "planned for %s: a number, a share such as 10%%%%, or host names"
        parser.add_argument("--plan-pre-release", default="", metavar="WHICH", help=what % "pre-release")
        parser.add_argument("--plan-gray-release", default="", metavar="WHICH", help=what % "gray release")
        parser.add_argument("--remark", default="", help="what changes, risks, whom to call")
        add_once(parser)

    def act(self, user, *, business, machines, all, once, json, **options):
        if bool(machines) == all:
            raise CommandError("Name the machines, or say --all; not both.", returncode=MISTAKE)
        business = business_named(user, business, Right.CREATE)
        key = once_key(once, business.pk)
        made = Job.objects.filter(requester=user, submit_key=key).first()
        try:
            job = made or self._ask(user, business, machines, key, **options)
        except FormUsed as error:  # at the same moment, by another process
            job = made = error.job
        if made:
            if job.version != options["version"].strip():
                raise CommandError(f"This step asked for {job} before; name another one.", returncode=CONFLICT)
            words = f"was asked for by this step before: {job.status}"
        else:
            words = "waits for approval" if job.approvers_needed else "is approved: it needs no approval"
        self.say(f"{job} {words}.", json, job=job.pk, status=job.status, machines=job.machines.count())

    def _ask(self, user, business, machines, key, *, version, title, **options):
        """Opens the job as its form would, on these machines or, where none are named, on all."""
        self.refresh_machines(business)
        data = {"title": title or f"{business.slug} {version}", "business": business.pk, "version": version}
        data |= {"machines": [machine.pk for machine in _chosen(business, machines)]}
        data |= {name: options[name] for name in ("plan_pre_release", "plan_gray_release", "remark")}
        form = checked(JobForm(data, user=user, business=business))
        return form.instance.ask_once(user, form.cleaned_data["machines"], key)


def _chosen(business, words):
    """Its live machines with these host names, or all. What an old list lacks may come with the next one."""
    live, code = Machine.objects.live_in(business), CONFLICT if business.sync_error else MISTAKE
    if not (words or live.exists()):
        raise CommandError("This business has no live machine.", returncode=code)
    return named_machines(live, words, code=code) if words else live


def _misplaced(version):
    raise argparse.ArgumentTypeError(f"say the version after the business: BUSINESS {version}")
