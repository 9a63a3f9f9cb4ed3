"""The main job in the terminal: a job is asked for and released, one machine rolled back, and all of it compared."""

import time

from jobs.models import Job
from releases.demo import comparison
from releases.demo.portal import DemoError
from releases.models import Kind, MachineRun, ReleaseStage, Run

BUSINESS = "payment"
POLL = 0.1
PLAIN_EVERY = 1  # seconds between lines where none can be updated in place


class Story:
    """Does the main job in a running demo, through the portal's own commands, each as the person whose step it is."""

    def __init__(self, demo, out):
        self.demo = demo
        self.out = out

    def tell(self):
        """Whether the machines and the ledger agree in the end."""
        self.job = self._ask_and_approve()
        self._tell_held()
        for kind in Kind.values:
            self._release(kind)
        self._roll_one_back(Kind.GRAY_RELEASE)
        return self._compare()

    def _ask_and_approve(self):
        version = f"2.14.{Job.objects.filter(business__slug=BUSINESS).count()}"
        asked = self.demo.act(
            "requester", "create_job", BUSINESS, version, "--all", "--remark", "Asked for by the demo."
        )
        self._say("asked for", f"job #{asked['job']}: {BUSINESS} {version} on {asked['machines']} machines")
        self.demo.act("approver", "approve_job", asked["job"])
        self._say("approved", f"by {self.demo.username('approver')}")
        return Job.objects.get(pk=asked["job"])

    def _tell_held(self):
        held = self.job.machines.filter(pk__in=MachineRun.objects.holding().values("machine"))
        if held:
            self._say("left out", f"held by other jobs: {', '.join(machine.hostname for machine in held)}")

    def _release(self, kind):
        chosen = self._choose(kind)
        tasks = ["--release-task", f"deploy-{BUSINESS}", "--rollback-task", f"rollback-{BUSINESS}"]
        started = self.demo.act("publisher", "run_stage", self.job.pk, kind, *chosen, *tasks)
        self._follow(kind, started["runs"][0]["id"])

    def _choose(self, kind):
        """Two machines, then a tenth of the job's, then the rest; the few ones spread over the sites."""
        offered = [machine.hostname for machine in ReleaseStage.objects.of_kind(self.job, kind).offered_machines()]
        wanted = {Kind.PRE_RELEASE: 2, Kind.GRAY_RELEASE: max(1, round(self.job.machines.count() / 10))}
        count = wanted.get(kind, len(offered))
        chosen = offered[:: max(1, len(offered) // max(1, count))][:count]
        if not chosen:
            raise DemoError(f"No machine of {self.job} is free for {kind}: other jobs hold them.")
        return chosen

    def _roll_one_back(self, kind):
        hostname = ReleaseStage.objects.of_kind(self.job, kind).rollback_candidates()[0].machine.hostname
        reason = ["--reason", "The demo shows a rollback."]
        started = self.demo.act("publisher", "rollback_stage", self.job.pk, kind, hostname, *reason)
        self._follow("rollback", started["runs"][0]["id"])

    def _follow(self, name, run_id):
        """Shows how the run goes until it has ended; DemoError when not every machine succeeded."""
        began = said = time.monotonic()
        while (run := Run.objects.get(pk=run_id)).status == Run.Status.RUNNING:
            self.demo.parts.require_all()
            if self.out.isatty() or time.monotonic() > said + PLAIN_EVERY:
                said = time.monotonic()
                self._say(name, _progress(run), in_place=True)
            time.sleep(POLL)
        self._say(name, f"{_progress(run)}, in {time.monotonic() - began:.1f} s")
        if run.status != Run.Status.SUCCEEDED:
            raise DemoError(f"Not every machine succeeded:\n{_failures(run)}")

    def _compare(self):
        homes = self.demo.home("")
        found = comparison.differences(homes)
        for hostname, sentences in found.items():
            self.out.write("\n".join(f"{hostname}: {sentence}" for sentence in sentences))
        if not found:
            count = sum(len(comparison.lines_of(home)) for home in homes.iterdir())
            self._say("compared", f"the machines' own {count} lines in releases.log and the ledger agree")
        return not found

    def _say(self, what, words, in_place=False):
        """One line; on a terminal, the next one replaces it when it is `in_place`."""
        is_tty = self.out.isatty()
        start, ending = ("\r\x1b[K" if is_tty else ""), ("" if is_tty and in_place else "\n")
        self.out.write(f"{start}{what:<14}{words}", ending=ending)
        self.out.flush()


def _progress(run):
    counts = run.machine_runs.counts()
    total = sum(counts.values())
    ended = total - run.machine_runs.pending().count()
    by_status = [f"{counts[status]} {status}" for status in MachineRun.Status.values if status in counts]
    return f"{ended} of {total} ended: {', '.join(by_status)}"


def _failures(run):
    bad = run.machine_runs.exclude(status=MachineRun.Status.SUCCEEDED).select_related("machine")
    return "\n".join(f"  {one.machine}: {one.status}, exit {one.exit_status}. {one.reason}" for one in bad)
