"""What the portal's commands share: they act as a named user, by the same rights as the pages."""

import argparse
import json
import os
import sys
from datetime import datetime
from uuid import NAMESPACE_OID, uuid4, uuid5

from django.core.checks import Tags
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management.base import BaseCommand, CommandError, SystemCheckError
from django.db import Error, IntegrityError
from django.forms import Field
from django.http import Http404

from deploy_portal import origin
from deploy_portal.database import is_clash, why_unusable
from deploy_portal.models import User
from deploy_portal.templatetags.portal import inert
from jobs.forms import ReasonForm
from jobs.models import Business, JobMoved
from jobs.plan import expanded, folded
from jobs.rights import Right

# Exit codes: a mistake in the call or a missing right, a run that failed, a conflict with how things stand now.
# 2 is what argparse ends with.
MISTAKE, FAILED, CONFLICT = 1, 3, 4
# The fields that are typed without an option.
ARGUMENTS = ("business", "version", "machines")
HOSTNAMES = "the machines, by host name; 'web-[001-120]' names 120"
EMPTY = "This must not be empty."
QUICKER = "Somebody else was quicker: what this needs was changed or removed at the same moment. Nothing was changed."


class InertCommand(BaseCommand):
    """A command whose words do nothing to a terminal, whoever wrote what is in them."""

    # The others look at code alone, all pages and the admin too, which costs a sixth of what a command takes to start.
    requires_system_checks = [Tags.security]
    # Whether to print is all that it does: a half of that must not be taken for the whole.
    only_tells = False
    epilog = ""  # what the help ends with

    def create_parser(self, *args, **options):
        """One whose errors are inert too: they repeat what was typed. Host names may also come after an option.

        Options are typed in full: one that is new could make of a script's short one another, or none.
        """
        parser = super().create_parser(*args, epilog=self.epilog, allow_abbrev=False, **options)
        parser.parse_args = parser.parse_intermixed_args
        refuse = parser.error
        parser.error = lambda message: refuse(inert(message))
        return parser

    def execute(self, *args, **options):
        try:
            return super().execute(*args, **options)
        except SystemCheckError:  # our own words, in colours where those are seen
            raise
        except CommandError as error:
            raise CommandError(inert(error), returncode=error.returncode) from error
        except Error as error:
            if not (words := why_unusable(error)):
                raise
            raise CommandError(inert(words), returncode=MISTAKE) from error
        except UnicodeEncodeError as error:
            words = "A name or value is not text in UTF-8; where the locale is to blame, PYTHONUTF8=1 helps."
            raise CommandError(words, returncode=MISTAKE) from error

    def show(self, words, as_json=False, facts=None):
        """Prints `words`, or `facts` as JSON."""
        try:
            self.stdout.write(json.dumps(facts, default=_in_json) if as_json else inert(words))
            self.stdout.flush()
        except OSError as error:
            # Who read this has gone, as `head` does, or the disk is full. What was done is done; the exit code tells.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if self.only_tells and not isinstance(error, BrokenPipeError):
                raise CommandError(f"This could not be printed: {error.strerror}.", returncode=MISTAKE) from error


def _in_json(value):
    return value.isoformat() if isinstance(value, datetime) else str(value)


class PortalCommand(InertCommand):
    """A command that acts as `--as USER`. `act` does the work; what it may raise becomes one line and an exit code."""

    conflicts = (JobMoved,)
    needs_user = True  # else `act` gets None where nobody is named
    epilog = (
        "Exit codes: 1 a mistake, a missing right or a database that cannot be used, 2 a call that cannot be read, "
        "3 a machine failed, 4 a conflict with how things stand now. docs/operations.md has examples."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--as", dest="actor", metavar="USER", required=self.needs_user, help="the user in whose name this is done"
        )
        parser.add_argument("--json", action="store_true", help="print JSON, for scripts")

    def handle(self, *args, actor, **options):
        user = User.objects.filter(username=actor, is_active=True).first()
        if not user and actor is not None:
            raise CommandError(f"There is no active user {actor!r}.", returncode=MISTAKE)
        try:
            with origin.process("command"):
                self.act(user, **options)
        except PermissionDenied as error:
            raise CommandError(str(error), returncode=MISTAKE) from error
        except Http404 as error:
            what = next(name for name in ("job", "run", "business") if name in options)
            raise CommandError(f"{actor} sees no such {what}: {options[what]}", returncode=MISTAKE) from error
        except ValidationError as error:
            raise CommandError(" ".join(error.messages), returncode=MISTAKE) from error
        except self.conflicts as error:
            raise CommandError(str(error), returncode=CONFLICT) from error
        except IntegrityError as error:
            if not is_clash(error):
                raise
            raise CommandError(QUICKER, returncode=CONFLICT) from error

    def act(self, user, **options):
        raise NotImplementedError

    def say(self, words, as_json, **facts):
        self.show(words, as_json, facts)

    def refresh_machines(self, business, before_start=False):
        """Asks the config service, as the pages do; that the list is an old one is told beside, as there."""
        business.refresh_machines(before_start)
        if business.sync_error:
            self.stderr.write(inert(f"The config service gives no list that can be taken: {business.why_not_taken}"))


def add_once(parser):
    parser.add_argument(
        "--once", metavar="STEP", type=_named, help="a name for this step: called again with it, tells what it did then"
    )


def once_key(once, *scope):
    """What a step is known by: the same for the same name in the same scope, a new one for a step without a name."""
    return uuid5(NAMESPACE_OID, repr((once, *scope))) if once else uuid4()


def _named(text):
    if not text.strip():
        raise argparse.ArgumentTypeError("the name of the step is empty")
    return text


def checked(form, **typed):
    """The form, if it is valid; CommandError gives its errors as lines, each with what was typed for its field.

    `typed` names the options that are called otherwise than their fields. That machines, or a list of them, cannot be
    had now is no mistake in the call.
    """
    if not form.is_valid():
        typed = {name: typed.get(name) or _as_typed(name) for name in form.errors}
        empty = Field.default_error_messages["required"]  # which speaks of a field
        told = [(typed[name], error) for name, errors in form.errors.items() for error in errors]
        lines = [f"{option}: {EMPTY if error == empty else error}" for option, error in told]
        codes = {error.code for errors in form.errors.values() for error in errors.as_data()}
        raise CommandError("\n".join(lines), returncode=CONFLICT if codes <= {"not_offered", "no_list"} else MISTAKE)
    return form


def _as_typed(name):
    return name if name in ARGUMENTS else f"--{name.replace('_', '-')}"


def checked_reason(reason):
    """Why a person does something, as the pages take it."""
    return checked(ReasonForm({"reason": reason})).cleaned_data["reason"]


def in_one_line(reason):
    """What a person may have written in several, of which one could look like another machine or run of ours."""
    return " ".join(reason.split())


def hostnames(words):
    """The host names that were typed, each once; CommandError when these are none, as in a script's empty variable."""
    names = list(dict.fromkeys(expanded(" ".join(words))))
    if not names:
        raise CommandError("The host names are empty.", returncode=MISTAKE)
    return names


def named_machines(queryset, words, code=MISTAKE):
    """The machines of `queryset` with these host names; CommandError names those it has not."""
    names = hostnames(words)
    found = {machine.hostname: machine for machine in queryset.filter(hostname__in=names)}
    if missing := [name for name in names if name not in found]:
        raise CommandError(f"Not among the machines to choose from: {', '.join(folded(missing))}", returncode=code)
    return [found[name] for name in names]


def business_named(user, slug, right):
    """The business `slug`, if `user` has `right` in it: else as on a page, 404 for a stranger and 403 for a member."""
    business = Business.objects.where(user, Right.VIEW).filter(slug=slug).first()
    if business is None:
        raise Http404
    if right not in business.rights_of(user):
        raise PermissionDenied(f"{user} lacks the right to {right.label}.")
    return business
