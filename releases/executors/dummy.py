"""Reaches no machine and executes nothing: for tests of the rest, and to try the portal without machines.

A command succeeds at once, unless lines of its script say otherwise; they are followed from the first to the last:

    # dummy: say TEXT           TEXT becomes a line of output
    # dummy: complain TEXT      the same, on the error output
    # dummy: sleep SECONDS      takes its time; longer than the order's timeout ends as timed out
    # dummy: fail STATUS        ends as failed, with that exit status
    # dummy: unknown            ends with its end not seen
    # dummy: unreachable        the machine can't be reached
    # dummy: denied             the machine can't be reached, and trying again will not help

`on PATTERN` at the end of a line keeps it to the hostnames that match: `# dummy: fail 3 on web-0?`.
"""

import asyncio
import fnmatch
import re

from django.utils.translation import gettext_noop as _

from releases.executors.base import Ending, Executor, ExecutorError, Outcome

_LINE = re.compile(r"^# dummy: (?P<word>\w+)(?: (?P<value>.*?))??(?: on (?P<pattern>\S+))?\s*$", re.MULTILINE)


class DummyExecutor(Executor):
    """Does what the comments in a script say; this module's docstring lists them."""

    async def execute(self, order, started, output):
        steps = _steps(order)
        for word, _value in steps:
            if word in ("unreachable", "denied"):
                raise ExecutorError(_("The dummy machine could not be reached."), permanent=word == "denied")
        if not await started():
            return Outcome(Ending.UNKNOWN)
        try:
            async with asyncio.timeout(order.timeout):
                return await _follow(steps, output)
        except TimeoutError:
            return Outcome(Ending.TIMED_OUT)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            return Outcome(Ending.CANCELLED)


def _steps(order):
    """What the script says for the order's machine, as pairs of a word and its value."""
    lines = _LINE.finditer(order.script)
    return [(m["word"], m["value"] or "") for m in lines if fnmatch.fnmatchcase(order.hostname, m["pattern"] or "*")]


async def _follow(steps, output):
    for word, value in steps:
        match word:
            case "say":
                await output(f"{value}\n".encode(), "out")
            case "complain":
                await output(f"{value}\n".encode(), "err")
            case "sleep":
                await asyncio.sleep(float(value))
            case "fail":
                return Outcome(Ending.FAILED, int(value))
            case "unknown":
                return Outcome(Ending.UNKNOWN, reason=_("The dummy machine's end was not seen."))
    return Outcome(Ending.SUCCEEDED, 0)
