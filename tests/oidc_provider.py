"""An OpenID Connect provider on loopback, which gives what the test wants: the truth unless told."""

import base64
import hashlib
import json
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET, CODE, ACCESS = "portal", "a secret between the two", "a-code", "an-access-token"


@cache
def key_of(whom):
    """The private key of each, made when it is first asked for: that takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Provider:
    """`token` and `claims` change what the ID token and the user's claims say; `answers` replaces whole answers."""

    def __init__(self):
        self.token, self.claims, self.answers = {}, {}, {}
        self.key = key_of("the provider")
        self.asked = {}

    def __enter__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def variables(self):
        """The environment variables of a portal that logs in here."""
        endpoints = {f"OIDC_{name.upper()}_ENDPOINT": f"{self.url}/{name}" for name in ("token", "user", "jwks")}
        return endpoints | {
            "OIDC_AUTHORIZATION_ENDPOINT": f"{self.url}/authorize",
            "OIDC_CLIENT_ID": CLIENT,
            "OIDC_CLIENT_SECRET": SECRET,
            "OIDC_ISSUER": self.url,
        }

    def let_in(self, address):
        """What the browser is sent back with from `address`, to which the portal sent it."""
        self.asked = {name: value for name, [value] in parse_qs(urlsplit(address).query).items()}
        return {"code": CODE, "state": self.asked["state"]}

    def _answer(self, path, form):
        if path in self.answers:
            return self.answers[path]
        return {"/token": self._token, "/jwks": self._jwks, "/user": self._user}[path](form)

    def _token(self, form):
        digest = hashlib.sha256(form["code_verifier"][0].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        is_right = (form["client_id"], form["client_secret"], form["code"]) == ([CLIENT], [SECRET], [CODE])
        if not is_right or challenge != self.asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        told = {"iss": self.url, "sub": "42", "aud": CLIENT, "exp": time.time() + 60, "nonce": self.asked["nonce"]}
        told = {name: value for name, value in (told | self.token).items() if value is not ...}
        token = jwt.encode(told, self.key, algorithm="RS256", headers={"kid": "k"})
        return 200, {"access_token": ACCESS, "id_token": token, "token_type": "Bearer"}

    def _jwks(self, form):
        key = jwt.algorithms.RSAAlgorithm.to_jwk(key_of("the provider").public_key(), as_dict=True)
        return 200, {"keys": [key | {"kid": "k", "alg": "RS256"}]}

    def _user(self, form):
        return 200, {"sub": "42", "preferred_username": "person"} | self.claims

    def _handler(self):
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send({})

            def do_POST(self):
                self.send(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))

            def send(self, form):
                status, body = provider._answer(self.path, form)
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        return Handler
