"""Logins by a directory. Needs django-auth-ldap, and is imported only where LDAP_SERVER is set."""

from django_auth_ldap.backend import LDAPBackend

from deploy_portal.models import User
from deploy_portal.other_logins import is_plain


class LdapBackend(LDAPBackend):
    """Takes a name only as the portal writes it: a directory takes any case, and each would have tries of its own."""

    def authenticate(self, request, username=None, password=None, **kwargs):
        if not username or not is_plain(username):
            return None
        known = set(User.objects.filter(username__iexact=username).values_list("username", flat=True))
        if username not in (known or {username.lower()}):
            return None
        return super().authenticate(request, username=username, password=password, **kwargs)

    def get_or_build_user(self, username, ldap_user):
        """(the user of this very name, False), or (a new one, not yet saved, True)."""
        known = User.objects.filter(username=username).first()
        return (known, False) if known else (User(username=username), True)

    def get_user(self, user_id):
        """Who was made inactive is out at once, which the library leaves to others."""
        user = super().get_user(user_id)
        return user if user and user.is_active else None
