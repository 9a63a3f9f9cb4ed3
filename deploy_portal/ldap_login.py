"""Logins by a directory. Needs django-auth-ldap, and is imported only where LDAP_SERVER is set."""

from django_auth_ldap.backend import LDAPBackend


class LdapBackend(LDAPBackend):
    def get_user(self, user_id):
        """Who was made inactive is out at once, which the library leaves to others."""
        user = super().get_user(user_id)
        return user if user and user.is_active else None
