"""So that runs go on whoever died: workers do this again and again, pages and commands while no worker is alive."""

import math
import time

from django.conf import settings

from deploy_portal.database import unless_away
from releases.models import MachineRun, ReleaseStage, Run, Worker
from releases.models.worker import time_to_beat
from releases.shared import Shared

# Who waits for a command's answer does so for no longer; a worker that may be silent for minutes is found by two looks.
PATIENCE = 30

_looks = Shared()


def move_on():
    """Moves on the runs whose batch has ended or whose budget is spent, and those that waited for a machine."""
    MachineRun.objects.call_off_astray()
    MachineRun.objects.follow_moves()
    MachineRun.objects.admit()
    Run.objects.due().advance()


def tidy():
    """Recovers what dead workers held, and moves on the runs whose last recorder died before it could."""
    Worker.objects.bury_dead()
    Run.objects.shorten_pauses()
    ReleaseStage.objects.shorten_soaks()
    move_on()


def tidy_if_alone():
    """What pages that show runs do while no worker is alive to do it; one does it for all that are asked for then."""
    _looks.get("for a worker", settings.LIVE_SHARED_SECONDS, _tidy_if_alone)


def _tidy_if_alone():
    if _is_left_alone():
        with unless_away():
            tidy()
    return None, True


def _is_left_alone():
    """Whether something runs, but no worker. Two small questions are put sooner than one that holds the other."""
    return Run.objects.active().exists() and not Worker.objects.alive().exists()


def looks_again_in():
    """After how many seconds whoever looks while no worker is alive must look again: a silent one may still beat.

    0 when there is nobody to look for.
    """
    if _is_left_alone() and Worker.objects.silent().exists():
        return math.ceil(time_to_beat().total_seconds()) + 1
    return 0


def tidy_at_once():
    """Like `tidy_if_alone`, for who does not come back to look again: a silent worker gets its time to beat here."""
    tidy_if_alone()
    if 0 < (seconds := looks_again_in()) <= PATIENCE:
        time.sleep(seconds)
        tidy_if_alone()
