"""Logins that are kept elsewhere, each off until its variables are set: what Django must be told of LDAP and OIDC."""

import os
import re
import unicodedata
from importlib import import_module

from django.core.exceptions import ImproperlyConfigured

from deploy_portal import env

PACKAGES = {"django_auth_ldap.config": "django-auth-ldap>=5.4,<6", "mozilla_django_oidc": "mozilla-django-oidc>=5,<6"}
SECONDS = 5
# As Django's UnicodeUsernameValidator has it, by which the admin takes names.
NAME = re.compile(r"[\w.@+-]+")


def ldap():
    """The settings of django-auth-ldap, or {} without LDAP_SERVER."""
    server = env.text("LDAP_SERVER")
    if not server:
        return {}
    config = _needed_by("LDAP_SERVER", "django_auth_ldap.config")
    import ldap

    is_plain = env.flag("LDAP_ALLOW_PLAINTEXT", False)
    # Several are tried in turn. Behind ldaps:// ones an ldap:// one would be asked without any TLS.
    addresses = re.split(r"[\s,]+", server)
    if not any(all(address.startswith(kind) for address in addresses) for kind in ("ldaps://", "ldap://")):
        raise ImproperlyConfigured(
            f"LDAP_SERVER must be an ldaps:// or ldap:// address, or several of one kind; it is {server!r}."
        )
    if not _is_filter(user_filter := env.text("LDAP_USER_FILTER", "(uid=%(user)s)")):
        raise ImproperlyConfigured("LDAP_USER_FILTER must have %(user)s where the name goes, and %% for a %.")
    if not os.access(certificates := env.text("LDAP_CA_FILE", "/etc/ssl/certs/ca-certificates.crt"), os.R_OK):
        raise ImproperlyConfigured(f"LDAP_CA_FILE names a file that cannot be read: {certificates}")
    return {
        "AUTH_LDAP_SERVER_URI": server,
        "AUTH_LDAP_START_TLS": server.startswith("ldap://") and not is_plain,
        "AUTH_LDAP_CONNECTION_OPTIONS": _connection_options(ldap, certificates),
        "AUTH_LDAP_BIND_DN": env.text("LDAP_BIND_DN"),
        "AUTH_LDAP_BIND_PASSWORD": env.secret("LDAP_BIND_PASSWORD"),
        "AUTH_LDAP_USER_SEARCH": config.LDAPSearch(_required("LDAP_SEARCH_BASE"), ldap.SCOPE_SUBTREE, user_filter),
        "AUTH_LDAP_NO_NEW_USERS": not env.flag("LDAP_CREATE_USERS", False),
        # Nothing is taken over from there, and to save the row would undo what ops have just done to it.
        "AUTH_LDAP_ALWAYS_UPDATE_USER": False,
    }


def _connection_options(ldap, certificates):
    return {
        ldap.OPT_NETWORK_TIMEOUT: SECONDS,
        ldap.OPT_TIMEOUT: SECONDS,
        ldap.OPT_REFERRALS: 0,
        # What waits for a host that is gone ends, and its room is free again (`ldap_login.ROOM`).
        ldap.OPT_X_KEEPALIVE_IDLE: 10,
        ldap.OPT_X_KEEPALIVE_INTERVAL: SECONDS,
        ldap.OPT_X_KEEPALIVE_PROBES: 3,
        ldap.OPT_X_TLS_REQUIRE_CERT: ldap.OPT_X_TLS_DEMAND,
        ldap.OPT_X_TLS_CACERTFILE: certificates,
        # Last: makes the ones before it count.
        ldap.OPT_X_TLS_NEWCTX: 0,
    }


def oidc(allow_http):
    """The settings of mozilla-django-oidc, and two of ours; {} without OIDC_CLIENT_ID."""
    client = env.text("OIDC_CLIENT_ID")
    if not client:
        return {}
    _needed_by("OIDC_CLIENT_ID", "mozilla_django_oidc")
    secret = env.secret("OIDC_CLIENT_SECRET")
    if not secret:
        raise ImproperlyConfigured("OIDC_CLIENT_ID needs OIDC_CLIENT_SECRET or OIDC_CLIENT_SECRET_FILE.")
    return {
        "OIDC_RP_CLIENT_ID": client,
        "OIDC_RP_CLIENT_SECRET": secret,
        "OIDC_RP_SIGN_ALGO": env.choice("OIDC_SIGN_ALGORITHM", "RS256", ["RS256", "ES256"]),
        "OIDC_RP_SCOPES": env.text("OIDC_SCOPES", "openid profile"),
        "OIDC_ISSUER": _required("OIDC_ISSUER"),
        "OIDC_OP_AUTHORIZATION_ENDPOINT": _address("OIDC_AUTHORIZATION_ENDPOINT", allow_http),
        "OIDC_OP_TOKEN_ENDPOINT": _address("OIDC_TOKEN_ENDPOINT", allow_http),
        "OIDC_OP_USER_ENDPOINT": _address("OIDC_USER_ENDPOINT", allow_http),
        "OIDC_OP_JWKS_ENDPOINT": _address("OIDC_JWKS_ENDPOINT", allow_http),
        "OIDC_USERNAME_CLAIM": env.text("OIDC_USERNAME_CLAIM", "preferred_username"),
        "OIDC_CREATE_USER": env.flag("OIDC_CREATE_USERS", False),
        "OIDC_USE_PKCE": True,
        "OIDC_TIMEOUT": SECONDS,
        "OIDC_MAX_STATES": 3,  # each is kept in the session cookie
        "LOGIN_REDIRECT_URL_FAILURE": "/login/?refused=1",
        # A try that the provider refused has no name; counted for none, it would lock out all who share an address.
        "AXES_WHITELIST_CALLABLE": "deploy_portal.views.login.is_back_from_provider",
    }


def backends(settings):
    """The authentication backends that these settings need."""
    names = {"AUTH_LDAP_SERVER_URI": "ldap_login.LdapBackend", "OIDC_RP_CLIENT_ID": "oidc_login.OidcBackend"}
    return [f"deploy_portal.{backend}" for setting, backend in names.items() if setting in settings]


def is_plain(name):
    """Whether a name is written as the portal keeps names. One in wide letters would get somebody else's account.

    Nor are there blanks in it: a directory takes any number of them for one, and each would have an account of its own.
    """
    return isinstance(name, str) and unicodedata.is_normalized("NFKC", name) and bool(NAME.fullmatch(name))


def _is_filter(text):
    try:
        return "%(user)s" in text and bool(text % {"user": "name"})
    except (KeyError, TypeError, ValueError):
        return False


def _needed_by(variable, module):
    try:
        return import_module(module)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"{variable} needs a package: pip install '{PACKAGES[module]}' ({error})."
        ) from error


def _required(name):
    if not (value := env.text(name)):
        raise ImproperlyConfigured(f"{name} is missing.")
    return value


def _address(name, allow_http):
    value = _required(name)
    if not value.startswith(("https://", "http://") if allow_http else "https://"):
        raise ImproperlyConfigured(f"{name} must be an https:// address; it is {value!r}.")
    return value
