from django.core.management.base import CommandError

from jobs.commands import MISTAKE, PortalCommand, named_machines
from jobs.models import Machine
from jobs.rights import Right
from releases.access import get_run
from releases.models import LogBlock


class Command(PortalCommand):
    help = "Prints what a machine said in a run, as its log's page offers it: each line behind its time and stream."
    only_tells = True

    def add_arguments(self, parser):
        super().add_arguments(parser)
        parser.add_argument("run", type=int, help="the run's number, as job_status and machine_status tell it")
        parser.add_argument("machine", metavar="HOSTNAME", help="the machine, by host name")

    def act(self, user, *, run, machine, json, **options):
        run = get_run(user, run, right=Right.VIEW)
        named = named_machines(Machine.objects.filter(runs__run=run), [machine])
        if len(named) > 1:
            raise CommandError("Name one machine.", returncode=MISTAKE)
        machine_run = run.machine_runs.select_related("machine").get(machine=named[0])
        log = "".join(LogBlock.objects.filter(machine_run=machine_run).lines())
        facts = {"run": run.pk, "hostname": machine_run.machine.hostname, "status": machine_run.status, "log": log}
        self.say(log, json, **facts)
