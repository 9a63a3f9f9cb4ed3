"""Settings of the portal. Each comes from the environment; `.env.example` lists them."""

import sys
from pathlib import Path

from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from django.utils.translation import gettext_lazy as _

from deploy_portal import env, other_logins

BASE_DIR = Path(__file__).resolve().parent.parent
env.read(BASE_DIR / ".env")

DEBUG = env.flag("DEBUG", False)
SECRET_KEY = env.secret("SECRET_KEY")
if not SECRET_KEY and (sys.argv[1:2] in (["release_worker"], ["help"]) or {"-h", "--help"} & set(sys.argv[2:])):
    # A worker signs nothing, nor does help; what they might sign is worth nothing elsewhere.
    SECRET_KEY = get_random_secret_key()
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "Set SECRET_KEY or SECRET_KEY_FILE (DEBUG=1 starts without one, for development only)."
        )
    SECRET_KEY = "django-insecure-development-only"  # noqa: S105
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"] if DEBUG else [])
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "deploy_portal",
    "jobs",
    "releases",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "axes",
    "csp",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "django_htmx",
]

MIDDLEWARE = [
    "deploy_portal.middleware.closed_headers",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "deploy_portal.middleware.bounded_session",
    "deploy_portal.middleware.aged_session",
    "django.middleware.locale.LocaleMiddleware",
    "deploy_portal.middleware.forms_in_utf8",
    "django.middleware.common.CommonMiddleware",
    "deploy_portal.middleware.busy_database",
    "deploy_portal.middleware.wrong_method",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "deploy_portal.middleware.required_second_factor",
    "deploy_portal.middleware.request_origin",
    "deploy_portal.limits.limited_writes",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "deploy_portal.urls"
WSGI_APPLICATION = "deploy_portal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "releases.context_processors.portal",
            ],
        },
    },
]

DATABASES = {"default": env.database("DATABASE_URL", f"sqlite:///{BASE_DIR / 'db.sqlite3'}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# People and sessions
AUTH_USER_MODEL = "deploy_portal.User"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "deploy_portal.backends.SecondFactorBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
SESSION_AGE = env.number("SESSION_HOURS", 12, least=1, most=24 * 30) * 3600
# A day longer, so that whoever comes back is told that the session has ended.
SESSION_COOKIE_AGE = SESSION_AGE + 24 * 3600
SESSION_IDLE = env.number("SESSION_IDLE_MINUTES", 0, most=24 * 60) * 60
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
WRITES_PER_MINUTE = env.number("WRITES_PER_MINUTE", 60, most=10_000)
LOGINS_PER_MINUTE = env.number("LOGINS_PER_MINUTE", 60, most=10_000)
AXES_FAILURE_LIMIT = 5
AXES_USERNAME_CALLABLE = "deploy_portal.views.login.login_name"
AXES_CLIENT_IP_CALLABLE = "deploy_portal.views.login.client_address"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_COOLOFF_TIME = 0.25
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_TEMPLATE = "registration/locked_out.html"
AXES_VERBOSE = False
# What axes must not keep of a try that failed, nor tell the log: a password may be typed where the name goes
AXES_SENSITIVE_PARAMETERS = ["username", "ip_address", "old_password", "new_password1", "new_password2", "code"]
REQUIRE_SECOND_FACTOR = env.choices("REQUIRE_SECOND_FACTOR", ["requester", "approver", "publisher", "ops"])
OTP_TOTP_ISSUER = "Deploy Portal"

# Transport: HTTPS unless INSECURE_HTTP says that the portal is reached without it (the demo, on loopback)
SECURE = not (DEBUG or env.flag("INSECURE_HTTP", False))
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_NAME = "__Host-session" if SECURE else "sessionid"
CSRF_COOKIE_NAME = "__Host-csrf" if SECURE else "csrftoken"
LANGUAGE_COOKIE_SAMESITE = "Lax"
SECURE_SSL_REDIRECT = SECURE and env.flag("SSL_REDIRECT", True)
# Who asks a web process itself comes without TLS, and takes a redirect for good health while the database is away.
SECURE_REDIRECT_EXEMPT = [r"^health/$"]
SECURE_HSTS_SECONDS = env.number("HSTS_SECONDS", 31_536_000) if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if env.flag("BEHIND_TLS_PROXY", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}
DATA_UPLOAD_MAX_NUMBER_FIELDS = 25_000
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_500_000
# No page takes a file. Django would keep what anybody sends on the disk, however large, before it refuses the form.
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]

# Logins that are kept elsewhere (docs/operations.md, "Logins")
OTHER_LOGINS = other_logins.ldap() | other_logins.oidc(allow_http=not SECURE)
globals().update(OTHER_LOGINS)
AUTHENTICATION_BACKENDS += other_logins.backends(OTHER_LOGINS)

# Mail: approvers are told of a break-glass; a server that does not answer must not hold up the start
globals().update(env.mail("EMAIL_URL", "dummymail://"))
EMAIL_TIMEOUT = 5
DEFAULT_FROM_EMAIL = env.text("MAIL_FROM", "deploy-portal@localhost")

# Words and time
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
FORMAT_MODULE_PATH = ["deploy_portal.formats"]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_TZ = True
TIME_ZONE = env.time_zone("TIME_ZONE", "UTC")

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / env.text("STATIC_ROOT", "staticfiles")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = DEBUG

# Config service: the sources that a business can be given, and what an answer may point at
CONFIG_SOURCES = {
    "http_json": "jobs.config_service.http_json.HttpJsonSource",
    "netbox": "jobs.config_service.netbox.NetBoxSource",
    "blueking": "jobs.config_service.blueking.BlueKingSource",
    "consul": "jobs.config_service.consul.ConsulSource",
    "etcd": "jobs.config_service.etcd.EtcdSource",
    "ansible": "jobs.config_service.ansible.AnsibleSource",
    "file": "jobs.config_service.file.FileSource",
}
CONFIG_SERVICE_TIMEOUT = env.number("CONFIG_SERVICE_TIMEOUT", 5, least=1, most=120)
CONFIG_SERVICE_MAX_AGE = env.number("CONFIG_SERVICE_MAX_AGE", 60, least=1)
CONFIG_SERVICE_MAX_AGE_AT_START = env.number("CONFIG_SERVICE_MAX_AGE_AT_START", 0)
CONFIG_SERVICE_MAX_LOSS_PERCENT = env.number("CONFIG_SERVICE_MAX_LOSS_PERCENT", 30, least=0, most=100)
CONFIG_SERVICE_MAX_MACHINES = env.number("CONFIG_SERVICE_MAX_MACHINES", 150_000, least=1)
ALLOW_LOOPBACK_MACHINES = env.flag("ALLOW_LOOPBACK_MACHINES", False)
# Environment variables that a source may send as a token: only these, so that no admin can ask for SECRET_KEY
CONFIG_SERVICE_TOKEN_PREFIX = "CONFIG_TOKEN_"  # noqa: S105
CONFIG_FILES_DIR = BASE_DIR / env.text("CONFIG_FILES_DIR", "config")
ALLOW_INVENTORY_SCRIPTS = env.flag("ALLOW_INVENTORY_SCRIPTS", False)

# Who watches a run is given what others were who asked so lately. A page asks every second, so it never goes back.
# Nor does each of them look whether a worker is alive.
LIVE_SHARED_SECONDS = 0.5

# Reaching machines
EXECUTORS = {
    "ssh": "releases.executors.ssh.SshExecutor",
    "dummy": "releases.executors.dummy.DummyExecutor",
}
EXECUTOR = env.choice("EXECUTOR", "ssh", EXECUTORS)
SSH_USER = env.text("SSH_USER", "deploy")
SSH_KEY_FILES = env.words("SSH_KEY_FILES")
SSH_KEYS_DIR = env.text("SSH_KEYS_DIR")
SSH_AGENT = env.flag("SSH_AGENT", False)
SSH_AUTH_SOCK = env.text("SSH_AUTH_SOCK")
SSH_KNOWN_HOSTS = env.text("SSH_KNOWN_HOSTS")
SSH_CONNECT_TIMEOUT = env.number("SSH_CONNECT_TIMEOUT", 10, least=1, most=600)
SSH_KEEP_CONNECTIONS = env.number("SSH_KEEP_CONNECTIONS", 200, most=5000)
SSH_KEEP_SECONDS = env.number("SSH_KEEP_SECONDS", 300, least=1, most=86_400)
WORKER_MACHINES_AT_ONCE = env.number("WORKER_MACHINES_AT_ONCE", 50, least=1, most=5000)
WORKER_DEAD_AFTER = env.number("WORKER_DEAD_AFTER", 15, least=3, most=3600)
LOG_HEAD_BYTES = env.number("LOG_HEAD_BYTES", 262_144, least=1024)
LOG_TAIL_BYTES = env.number("LOG_TAIL_BYTES", 65_536, least=1024)
# Environment variables whose values are masked in logs, besides the secrets of the portal itself
MASKED_VARIABLES = env.words("MASKED_VARIABLES")

LOG_LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "deploy_portal.logs.InertFormatter",
            "format": "{asctime} {levelname} {name}: {message}",
            "style": "{",
        }
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.choice("LOG_LEVEL", "INFO", LOG_LEVELS)},
    # The last tells each name that was tried, where a password may have been typed.
    "loggers": {name: {"level": "WARNING"} for name in ("asyncssh", "axes", "django_auth_ldap")},
}
