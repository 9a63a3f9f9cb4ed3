"""A way to reach machines: one class with one abstract method, registered by name in settings.EXECUTORS."""

import errno
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.translation import gettext_noop as _

_NO_DESCRIPTORS = _("The worker has no file descriptors left: raise its limit (ulimit -n) or lower --at-once.")


@dataclass(frozen=True)
class Order:
    """What is to be executed on one machine. `timeout` is in seconds; `env` values are hostile text, never code.

    `key` is the name of the business's SSH key; empty: the portal's own.
    """

    hostname: str
    address: str
    port: int
    user: str
    script: str
    timeout: int
    env: dict[str, str] = field(default_factory=dict)
    key: str = ""


class Ending(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Outcome:
    """How a command ended: `exit_status` is the channel's, None when there was none; `reason` is words for a person."""

    ending: Ending
    exit_status: int | None = None
    reason: str = ""


class ExecutorError(Exception):
    """The command was never sent: the machine could not be reached. `permanent`: trying again will not help."""

    def __init__(self, reason, permanent=False):
        super().__init__(reason)
        self.permanent = permanent

    @classmethod
    def of(cls, error, reason, permanent=False):
        """What `error` means: `reason`, unless it is the worker itself that lacks something."""
        if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
            return cls(_NO_DESCRIPTORS)
        return cls(reason, permanent)


class Executor(ABC):
    """Lives as long as its worker; `execute` is called for many machines at once on one event loop."""

    @abstractmethod
    async def execute(
        self, order: Order, started: Callable[[], Awaitable[bool]], output: Callable[[bytes, str], Awaitable[None]]
    ) -> Outcome:
        """Runs `order` and returns how it ended.

        `started` is awaited after connecting, when nothing is left to wait for before the command is sent, and again
        should that have to be done anew. When it answers False nothing may be sent (Outcome UNKNOWN is returned and
        ignored). `output` is awaited with each block of bytes and the stream it came from, "out" or "err". Raises
        ExecutorError when nothing was sent.

        When the task that awaits `execute` is cancelled before anything was sent, CancelledError goes on. After that,
        the remote processes are killed and the cancellation ends here: Outcome CANCELLED when its end was seen
        within seconds, UNKNOWN when it was not, or how the command ended if it just had. A second cancellation goes on.
        """

    async def close(self):  # noqa: B027
        """Lets go of what is kept between executions."""


def load():
    """The executor that settings.EXECUTOR names."""
    return import_string(settings.EXECUTORS[settings.EXECUTOR])()
