"""Logins by a directory. Needs django-auth-ldap, and is imported only where LDAP_SERVER is set."""

import logging
from concurrent.futures import Future
from threading import BoundedSemaphore, Thread
from types import SimpleNamespace

import ldap
from django.db import IntegrityError
from django_auth_ldap.backend import LDAPBackend
from ldap.ldapobject import SimpleLDAPObject

from deploy_portal.backends import OnlyActive
from deploy_portal.models import User
from deploy_portal.other_logins import SECONDS, is_plain

log = logging.getLogger(__name__)
# What an answer that is none can end in, and two first logins of one person at once.
REFUSALS = (IntegrityError, ValueError)
# For one question, and each address that is tried for it: to connect, then to answer.
LIMIT = 2 * SECONDS
# Questions at once in this process, with those that were given up and have not ended; and how long one more waits.
ROOM = BoundedSemaphore(16)
WAIT = 1


class LdapBackend(OnlyActive, LDAPBackend):
    """Takes a name only as the portal writes it: a directory takes any case, and each would have tries of its own."""

    @property
    def ldap(self):
        """What the library opens its connections by."""
        return SimpleNamespace(initialize=Connection)

    def authenticate(self, request, username=None, password=None, **kwargs):
        if not username or not is_plain(username):
            return None
        known = set(User.objects.filter(username__iexact=username).values_list("username", flat=True))
        if username not in (known or {username.lower()}):
            return None
        try:
            user = super().authenticate(request, username=username, password=password, **kwargs)
        except REFUSALS as error:
            log.warning("A login by the directory was refused: %s", error)
            return None
        # As for a password of the portal: that it is right is not told, and it counts as wrong.
        return user if user and user.is_active else None

    def get_or_build_user(self, username, ldap_user):
        """(the user of this very name, False), or (a new one, not yet saved, True)."""
        known = User.objects.filter(username=username).first()
        return (known, False) if known else (User(username=username), True)


class Connection(SimpleLDAPObject):
    """Asks in a thread of its own, and gives a question up after a while: nothing else ends one that hangs.

    The limits of time that libldap has count neither while it agrees on TLS nor for the rest of an answer that began.
    """

    def __init__(self, addresses, **kwargs):
        super().__init__(addresses, **kwargs)
        self.limit = LIMIT * addresses.count("://")

    def start_tls_s(self):
        return _in_time(self.limit, super().start_tls_s)

    def simple_bind_s(self, *args, **kwargs):
        return _in_time(self.limit, super().simple_bind_s, *args, **kwargs)

    def search_s(self, *args, **kwargs):
        return _in_time(self.limit, super().search_s, *args, **kwargs)


def _in_time(limit, question, *args, **kwargs):
    if not ROOM.acquire(timeout=WAIT):
        raise ldap.BUSY({"desc": "Too many questions to the directory have not ended"})
    answer = Future()

    def ask():
        try:
            answer.set_result(question(*args, **kwargs))
        except Exception as error:
            answer.set_exception(error)
        finally:
            ROOM.release()

    Thread(target=ask, daemon=True).start()
    try:
        return answer.result(limit)
    except TimeoutError:
        raise ldap.TIMEOUT({"desc": "The directory stands still"}) from None
