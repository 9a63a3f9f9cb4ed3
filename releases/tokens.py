"""The signed token in a form that starts something: for what of which job, for whom, and its version then."""

import secrets

from django.conf import settings
from django.core import signing
from django.utils.translation import gettext_lazy as _

from releases.models import StageMoved

SALT = "deploy_portal.stage"
LONGEST = 1000


def issue(user, job, what, version):
    """A token for one submit by `user`; `what` is a stage's kind, or "job" for all of them."""
    told = {"user": user.pk, "job": job.pk, "revision": job.revision, "what": what, "version": version}
    return signing.dumps(told | {"key": secrets.token_urlsafe(16)}, salt=SALT)


def read(token, user, job, what):
    """(submit key, version) in `token`; StageMoved when it is not ours, too old, or made for something else."""
    try:
        told = signing.loads(token[:LONGEST], salt=SALT, max_age=settings.SESSION_AGE)
    except signing.SignatureExpired as error:
        raise StageMoved(_("This page is too old. Look at what it shows now, then go on.")) from error
    except signing.BadSignature as error:
        raise StageMoved(_("This form was not made by this page. Look at what it shows now, then go on.")) from error
    if (told["job"], told["what"]) != (job.pk, what):
        raise StageMoved(_("This form was made for another job or stage. Nothing was started."))
    if told["user"] != user.pk:
        raise StageMoved(_("This form was made for another user. Nothing was started."))
    if told["revision"] != job.revision:
        raise StageMoved(_("This job was edited since the page was loaded. Nothing was started."))
    return told["key"], told["version"]
