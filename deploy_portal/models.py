import hashlib
import re
import secrets
from base64 import b32encode
from datetime import timedelta

from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import models, transaction
from django.dispatch import receiver
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext_lazy as _
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from deploy_portal import sessions
from deploy_portal.quota import Quota

__all__ = ["Quota", "User"]

APP_CODE_LENGTH = 6
BACKUP_CODES = 10
CLOCKS_DIFFER_BY = timedelta(minutes=1)  # those of several web hosts, at most


class User(AbstractUser):
    """A person. Raising the session epoch ends every session that was started under the old one."""

    session_epoch = models.PositiveIntegerField(_("session epoch"), default=0, editable=False)

    @property
    def is_ops(self):
        return self.is_active and self.is_superuser

    def end_sessions(self):
        """Makes every cookie that was issued for this user worthless, captured ones included."""
        type(self).objects.filter(pk=self.pk).update(session_epoch=models.F("session_epoch") + 1)
        self.refresh_from_db(fields=["session_epoch"])

    def _get_session_auth_hash(self, secret=None):
        # The public method alone would break SECRET_KEY_FALLBACKS, which ask this one with each old key.
        inner = super()._get_session_auth_hash(secret=secret)
        return salted_hmac(
            "deploy_portal.session_epoch", f"{inner}:{self.session_epoch}", secret=secret, algorithm="sha256"
        ).hexdigest()

    @property
    def second_factor(self):
        """The authenticator app that this person's logins are confirmed by, or None."""
        return TOTPDevice.objects.devices_for_user(self, confirmed=True).first()

    @property
    def backup_codes_left(self):
        return StaticToken.objects.filter(device__user=self).count()

    def must_have_second_factor(self):
        roles = settings.REQUIRE_SECOND_FACTOR
        is_required_in_admin = "ops" in roles and (self.is_superuser or self.is_staff)
        return is_required_in_admin or self.membership_set.filter(role__in=roles).exists()

    def offer_second_factor(self):
        """An app that is yet to show by a code that it has the secret; the same one until it has."""
        offered = TOTPDevice.objects.devices_for_user(self, confirmed=False).order_by("pk").first()
        return offered or TOTPDevice.objects.create(user=self, name="app", confirmed=False)

    @transaction.atomic
    def confirm_second_factor(self, code):
        """Takes the app that was offered into use and gives backup codes, or None when the code is not of that app.

        All sessions end: whoever is logged in from here on has shown a code.
        """
        User.objects.select_for_update(no_key=True).get(pk=self.pk)
        app = self.offer_second_factor()
        if self.second_factor or not _verified(app, _bare(code)):
            return None
        TOTPDevice.objects.filter(pk=app.pk).update(confirmed=True)
        TOTPDevice.objects.devices_for_user(self, confirmed=False).delete()
        self.end_sessions()
        codes = self._make_backup_codes()
        self.tell(self, "changed", added=["second factor"])
        return codes

    @transaction.atomic
    def new_backup_codes(self):
        """Codes for when the app is not at hand, in place of those before; only what they hash to is kept."""
        codes = self._make_backup_codes()
        self.tell(self, "changed", fields=["backup codes"])
        return codes

    def _make_backup_codes(self):
        codes = [b32encode(secrets.token_bytes(10)).decode().lower() for _ in range(BACKUP_CODES)]
        StaticDevice.objects.filter(user=self).delete()
        device = StaticDevice.objects.create(user=self, name="backup codes")
        StaticToken.objects.bulk_create(StaticToken(device=device, token=_hashed(code)) for code in codes)
        return ["-".join(re.findall("....", code)) for code in codes]

    @transaction.atomic
    def use_code(self, code):
        """Whether `code` is right, and uses it up. After a wrong one the next must wait, each time twice as long."""
        code = _bare(code)
        model, token = (TOTPDevice, code) if len(code) == APP_CODE_LENGTH else (StaticDevice, _hashed(code))
        device = model.objects.select_for_update().filter(user=self, confirmed=True).first()
        return bool(device and _verified(device, token))

    @transaction.atomic
    def remove_second_factor(self, by):
        TOTPDevice.objects.filter(user=self).delete()
        StaticDevice.objects.filter(user=self).delete()
        self.end_sessions()
        self.tell(by, "changed", deleted=["second factor"])

    def tell(self, by, verb, **detail):
        """Writes into the trail of events what `by` did to this person's account; last in its transaction."""
        # By its name, since what every page shares does not import `jobs`.
        apps.get_model("jobs.Event").objects.tell(by, verb, f"user {self}", **detail)


def _verified(device, token):
    """Whether it is right. A wrong one of a time to come, before the web's clock was set back, keeps nobody waiting."""
    failed_at = device.throttling_failure_timestamp
    if failed_at and failed_at > timezone.now() + CLOCKS_DIFFER_BY:
        device.throttle_reset(commit=False)
    return device.verify_token(token)


def _bare(code):
    return re.sub(r"[\s-]", "", code).lower()


def _hashed(code):
    """What is kept of a backup code, in the 16 characters that there are; its 80 random bits need no salt."""
    return b32encode(hashlib.sha256(code.encode()).digest()).decode()[:16]


@receiver(user_logged_in)
def begin_session(sender, request, **kwargs):
    """Every way in, whichever library it is from, passes here; a session that did not is over (`sessions.is_over`)."""
    sessions.begin(request.session)


@receiver(user_logged_out)
def end_sessions(sender, user, **kwargs):
    """Whoever logs out, here or in the admin, logs out everywhere: a copy of the cookie must not outlive it."""
    if user:
        user.end_sessions()
