import secrets

from django.core.management.base import CommandError

from jobs.access import get_job
from jobs.commands import MISTAKE, checked, named_machines
from jobs.rights import Right
from releases.commands import Acting, RunCommand
from releases.forms import ReleaseStageForm
from releases.models import Action, Kind, ReleaseStage, Task


class Command(RunCommand):
    help = "Starts a stage of an approved job on some or all of the machines that it can still release."

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("job", type=int, help="the job's number")
        parser.add_argument("stage", choices=Kind.values, help="which stage")
        parser.add_argument("machines", nargs="*", metavar="HOSTNAME", help="the machines, by host name")
        parser.add_argument("--all", action="store_true", help="every machine that the stage offers")
        parser.add_argument("--release-task", metavar="NAME", help="needed when there is more than one")
        parser.add_argument("--rollback-task", metavar="NAME", help="needed when there is more than one")
        parser.add_argument("--batch-size", type=int, help="machines at a time (default: all)")
        parser.add_argument("--remark", default="", help="why now; ops who step in must say it")

    def act(self, user, *, job, stage, machines, all, batch_size, remark, **options):
        if bool(machines) == all:
            raise CommandError("Name the machines, or say --all; not both.", returncode=MISTAKE)
        job = get_job(user, job, Right.PUBLISH)
        job.business.refresh_machines()
        stage = ReleaseStage.objects.of_kind(job, stage)
        offered = stage.offered_machines()
        chosen = list(offered) if all else named_machines(offered, machines)
        data = {"machines": [machine.pk for machine in chosen], "remark": remark, "batch_size": batch_size}
        for name, action in (("release_task", Action.RELEASE), ("rollback_task", Action.ROLLBACK)):
            data[name] = _task(job.business, action, options[name]).pk
        form = checked(ReleaseStageForm(data, instance=stage, request=Acting(user, {"job_id": job.pk})))
        run = stage.start(user, form.cleaned_data["machines"], secrets.token_urlsafe(16))
        self.finish([run], options["wait"], options["wait_limit"], options["json"])


def _task(business, action, name):
    tasks = list(Task.objects.offered_to(business, action))
    named = [task for task in tasks if name in (None, task.name)]
    if len(named) != 1:
        names = ", ".join(task.name for task in tasks) or "none"
        raise CommandError(f"Name one {action} task (--{action}-task): {names}.", returncode=MISTAKE)
    return named[0]
