from django.contrib.auth.models import AbstractUser
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import models
from django.dispatch import receiver
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _

from deploy_portal import sessions


class User(AbstractUser):
    """A person. Raising the session epoch ends every session that was started under the old one."""

    session_epoch = models.PositiveIntegerField(_("session epoch"), default=0, editable=False)

    @property
    def is_ops(self):
        return self.is_active and self.is_superuser

    def end_sessions(self):
        """Makes every cookie that was issued for this user worthless, captured ones included."""
        type(self).objects.filter(pk=self.pk).update(session_epoch=models.F("session_epoch") + 1)

    def _get_session_auth_hash(self, secret=None):
        # The public method alone would break SECRET_KEY_FALLBACKS, which ask this one with each old key.
        inner = super()._get_session_auth_hash(secret=secret)
        return salted_hmac(
            "deploy_portal.session_epoch", f"{inner}:{self.session_epoch}", secret=secret, algorithm="sha256"
        ).hexdigest()


@receiver(user_logged_in)
def begin_session(sender, request, **kwargs):
    """Every way in, whichever library it is from, passes here; a session that did not is over (`sessions.is_over`)."""
    sessions.begin(request.session)


@receiver(user_logged_out)
def end_sessions(sender, user, **kwargs):
    """Whoever logs out, here or in the admin, logs out everywhere: a copy of the cookie must not outlive it."""
    if user:
        user.end_sessions()
