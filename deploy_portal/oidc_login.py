"""Logins by an OpenID Connect provider. Needs mozilla-django-oidc; imported only where OIDC_CLIENT_ID is set."""

import logging

import jwt
from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.db import IntegrityError
from django.urls import path
from mozilla_django_oidc.auth import OIDCAuthenticationBackend
from mozilla_django_oidc.views import OIDCAuthenticationCallbackView, OIDCAuthenticationRequestView
from requests import RequestException

from deploy_portal.backends import OnlyActive
from deploy_portal.other_logins import is_plain
from deploy_portal.views.login import let_in, way_on

log = logging.getLogger(__name__)
# What an answer of the provider that is none can end in, two first logins of one person at once, and a refusal.
REFUSALS = (RequestException, jwt.PyJWTError, SuspiciousOperation, IntegrityError)
REFUSALS += (AttributeError, KeyError, TypeError, ValueError, RecursionError)


class OidcBackend(OnlyActive, OIDCAuthenticationBackend):
    def authenticate(self, request, nonce, code_verifier):
        """Named arguments, so that a password is never taken for a login by the provider."""
        try:
            return super().authenticate(request, nonce=nonce, code_verifier=code_verifier)
        except REFUSALS as error:
            log.warning("A login by the OIDC provider was refused: %s", error)
            return None

    def verify_token(self, token, **kwargs):
        payload = super().verify_token(token, **kwargs)
        audience = payload.get("aud")
        audience = [audience] if isinstance(audience, str) else (audience or [])
        if payload.get("iss") != settings.OIDC_ISSUER or settings.OIDC_RP_CLIENT_ID not in audience:
            raise SuspiciousOperation("The token is of another issuer, or for another client.")
        # Of several clients that a token is for, one has asked for it.
        if payload.get("azp", settings.OIDC_RP_CLIENT_ID) != settings.OIDC_RP_CLIENT_ID:
            raise SuspiciousOperation("Another client has asked for the token.")
        return payload

    def get_userinfo(self, access_token, id_token, payload):
        claims = super().get_userinfo(access_token, id_token, payload)
        if not payload.get("exp") or claims["sub"] != payload.get("sub"):
            raise SuspiciousOperation("The token never ends, or the claims are somebody else's.")
        return claims

    def verify_claims(self, claims):
        """A name that could be in the portal; an address only when the provider has seen that it is the person's."""
        name = self.get_username(claims)
        is_proved = settings.OIDC_USERNAME_CLAIM != "email" or claims.get("email_verified") is True
        return is_plain(name) and len(name) <= 150 and is_proved

    def get_username(self, claims):
        return claims.get(settings.OIDC_USERNAME_CLAIM)

    def filter_users_by_claims(self, claims):
        return self.UserModel.objects.filter(username=self.get_username(claims))

    def create_user(self, claims):
        """Somebody without a password and without any right, and not the second account of anybody."""
        name = self.get_username(claims)
        if self.UserModel.objects.filter(username__iexact=name).exists():
            raise SuspiciousOperation(f"The portal has this name in other letters: {name}")
        return self.UserModel.objects.create_user(name)


class Callback(OIDCAuthenticationCallbackView):
    def get(self, request):
        """An error logs nobody out, as it would in the library: any site can send people here with one."""
        return self.login_failure() if "error" in request.GET else super().get(request)

    @property
    def success_url(self):
        return way_on(super().success_url)

    def login_success(self):
        return let_in(self.request, self.user, self.success_url) or super().login_success()


urlpatterns = [
    path("", OIDCAuthenticationRequestView.as_view(), name="oidc_authentication_init"),
    path("callback/", Callback.as_view(), name="oidc_authentication_callback"),
]
