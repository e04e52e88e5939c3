"""Settings of the platform, each from the environment (prefix ``ROUNDTABLE_``), with a default for one machine.

What is secret and not given in the environment is made once and kept in ``var/`` with mode 0600.
"""

import hashlib
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import environ

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()


def _kept_secret(path: Path) -> str:
    """Return the secret stored at ``path``, making it first when there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(48))
    return path.read_text().strip()


def _secret(variable: str, file_variable: str) -> str:
    """Return a secret that is given in the environment or, better, in a file that the environment names."""
    path = env.str(file_variable, default="")
    return Path(path).read_text().strip() if path else env.str(variable, default="")


# --- Where things are ---------------------------------------------------------------------------------------------
VAR_DIR = Path(env.str("ROUNDTABLE_VAR", default=str(BASE_DIR / "var")))
STORE_DIR = VAR_DIR / "store"  # packages, models, uploaded data: content-addressed files
RUNS_DIR = VAR_DIR / "runs"  # what the process backend unpacks and runs
# Virtual environments of the process backend, by digest of what they hold.
VENVS_DIR = Path(env.str("ROUNDTABLE_VENVS", default=str(VAR_DIR / "venvs")))
VAR_DIR.mkdir(parents=True, exist_ok=True)

# The address that browsers, devices and instances use.
PUBLIC_URL = env.str("ROUNDTABLE_URL", default="http://127.0.0.1:8000").rstrip("/")

# --- Django -------------------------------------------------------------------------------------------------------
SECRET_KEY = env.str("ROUNDTABLE_SECRET_KEY", default="") or _kept_secret(VAR_DIR / "secret_key")
DEBUG = env.bool("ROUNDTABLE_DEBUG", default=False)
ALLOWED_HOSTS = env.list(
    "ROUNDTABLE_ALLOWED_HOSTS", default=[urlsplit(PUBLIC_URL).hostname or "127.0.0.1", "127.0.0.1", "localhost"]
)
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "channels",
    "mlops_site",
    "accounts",
    "configurations",
    "devices",
    "runs",
    "health",
    "api",
    "alerts",
    "exports",
    "sweeps",
    "groups",
    "registry",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "mlops_site.security.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "mlops_site.urls"
ASGI_APPLICATION = "mlops_site.asgi.application"
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
            ],
        },
    },
]

DATABASES = {"default": env.db("ROUNDTABLE_DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'roundtable.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # WAL lets readers go on while one process writes; IMMEDIATE takes the write lock at BEGIN, so that a transaction
    # waits its turn instead of failing half-way.
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=20000;",
    }
    DATABASES["default"]["TEST"] = {"NAME": VAR_DIR / "test.sqlite3"}
elif DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # A database host that vanishes says nothing: without these a process would wait for it for a quarter of an hour.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 10,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        **DATABASES["default"].get("OPTIONS", {}),
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_URL.startswith("https://")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if PUBLIC_URL.startswith("https://") else None
SECURE_SSL_REDIRECT = PUBLIC_URL.startswith("https://")
SECURE_REDIRECT_EXEMPT = ["^healthz$", "^metrics$"]  # read from within, past the proxy that ends TLS
SECURE_HSTS_SECONDS = 31536000 if PUBLIC_URL.startswith("https://") else 0
# Other hosts of the domain are not this platform's to decide on.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = VAR_DIR / "staticfiles"
STATIC_ROOT.mkdir(exist_ok=True)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": STORE_DIR}},
    "staticfiles": {"BACKEND": "mlops_site.staticfiles.ModuleStaticFilesStorage"},
}
# Large uploads go to disk while they arrive, beside the store so that keeping one is a rename.
FILE_UPLOAD_TEMP_DIR = VAR_DIR / "uploads"
FILE_UPLOAD_TEMP_DIR.mkdir(exist_ok=True)
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.TemporaryFileUploadHandler"]

# --- Redis: task queue, channel layer, recent live frames, cache -----------------------------------------------------
REDIS_URL = env.str("ROUNDTABLE_REDIS_URL", default="redis://127.0.0.1:6379/0")
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "roundtable"},
    }
}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}}

CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
# A stage may run for an hour; Redis hands a task to another worker after this many seconds without an acknowledgement.
# Who sends a task does not wait for a Redis that is away: the reaper sends it later.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 2 * 3600,
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0.1,
    "interval_max": 0.1,
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"

# --- MQTT -----------------------------------------------------------------------------------------------------------
MQTT_HOST = env.str("ROUNDTABLE_MQTT_HOST", default="127.0.0.1")
MQTT_PORT = env.int("ROUNDTABLE_MQTT_PORT", default=1883)
MQTT_TLS = env.bool("ROUNDTABLE_MQTT_TLS", default=False)
MQTT_CA = env.str("ROUNDTABLE_MQTT_CA", default="")  # PEM file of the broker's authority, where the system has it not
MQTT_USER = env.str("ROUNDTABLE_MQTT_USER", default="platform")
MQTT_PASSWORD = env.str("ROUNDTABLE_MQTT_PASSWORD", default="") or _kept_secret(
    VAR_DIR / "broker" / "platform_password"
)
# What devices and instances are told, where it differs from what the platform's own processes use.
MQTT_PUBLIC_HOST = env.str("ROUNDTABLE_MQTT_PUBLIC_HOST", default=MQTT_HOST)
MQTT_PUBLIC_PORT = env.int("ROUNDTABLE_MQTT_PUBLIC_PORT", default=MQTT_PORT)
MQTT_PUBLIC_TLS = env.bool("ROUNDTABLE_MQTT_PUBLIC_TLS", default=MQTT_TLS)

# --- Limits ---------------------------------------------------------------------------------------------------------
MIB = 1024 * 1024
PACKAGE_MAX_BYTES = env.int("ROUNDTABLE_PACKAGE_MAX_MIB", default=512) * MIB
PACKAGE_MAX_UNPACKED_BYTES = env.int("ROUNDTABLE_PACKAGE_MAX_UNPACKED_MIB", default=2048) * MIB
PACKAGE_MAX_MEMBERS = env.int("ROUNDTABLE_PACKAGE_MAX_MEMBERS", default=20_000)
PACKAGE_MAX_RATIO = env.int("ROUNDTABLE_PACKAGE_MAX_RATIO", default=200)
PACKAGE_MAX_DEPTH = env.int("ROUNDTABLE_PACKAGE_MAX_DEPTH", default=32)
DATA_MAX_BYTES = env.int("ROUNDTABLE_DATA_MAX_MIB", default=1024) * MIB
DISK_LEAST_BYTES = env.int("ROUNDTABLE_DISK_LEAST_MIB", default=2048) * MIB  # with less free the health page is red
MODEL_MAX_BYTES = env.int("ROUNDTABLE_MODEL_MAX_MIB", default=4096) * MIB
# Whether a person who was invited into a group may make an account by the link.
INVITED_ACCOUNTS = env.bool("ROUNDTABLE_INVITED_ACCOUNTS", default=False)
ENROLMENT_CODE_SECONDS = env.int("ROUNDTABLE_ENROLMENT_CODE_SECONDS", default=3600)
TELEMETRY_GRACE_SECONDS = env.int("ROUNDTABLE_TELEMETRY_GRACE_SECONDS", default=120)
STAGE_TIMEOUT_SECONDS = env.int("ROUNDTABLE_STAGE_TIMEOUT_SECONDS", default=3600)
STAGE_HEARTBEAT_SECONDS = env.int("ROUNDTABLE_STAGE_HEARTBEAT_SECONDS", default=30)
# A stopped run is over after this many seconds, whether every device has answered or not.
RUN_STOP_SECONDS = env.int("ROUNDTABLE_RUN_STOP_SECONDS", default=60)
# How long clients may take to end by themselves once the aggregator is done.
RUN_FINISH_SECONDS = env.int("ROUNDTABLE_RUN_FINISH_SECONDS", default=20)

# --- Pipeline -------------------------------------------------------------------------------------------------------
BACKEND = env.str("ROUNDTABLE_BACKEND", default="auto")
# What containers and services of this installation are told apart by, where several share an engine.
PLATFORM_ID = hashlib.sha256(b"roundtable platform:" + SECRET_KEY.encode()).hexdigest()[:16]

# --- Containers: the backends docker and swarm ------------------------------------------------------------------------
DOCKER_HOST = env.str("ROUNDTABLE_DOCKER_HOST", default=env.str("DOCKER_HOST", default="unix:///var/run/docker.sock"))
BASE_IMAGE = env.str("ROUNDTABLE_BASE_IMAGE", default="python:3.12-slim")
BUILD_NETWORK = env.str(
    "ROUNDTABLE_BUILD_NETWORK", default=""
)  # of pip within builds: empty for the engine's own, or host
BUILD_ARGS = env.list(
    "ROUNDTABLE_BUILD_ARGS", default=[]
)  # names of variables that builds get from the worker's environment
REGISTRY = env.str("ROUNDTABLE_REGISTRY", default="").strip(
    "/"
)  # host:port, and a path where images are to stand below one
REGISTRY_USER = env.str("ROUNDTABLE_REGISTRY_USER", default="")
REGISTRY_PASSWORD = _secret("ROUNDTABLE_REGISTRY_PASSWORD", "ROUNDTABLE_REGISTRY_PASSWORD_FILE")
# What devices log in with: where the registry knows users that may only pull, give one of those.
REGISTRY_PULL_USER = env.str("ROUNDTABLE_REGISTRY_PULL_USER", default="") or REGISTRY_USER
REGISTRY_PULL_PASSWORD = (
    _secret("ROUNDTABLE_REGISTRY_PULL_PASSWORD", "ROUNDTABLE_REGISTRY_PULL_PASSWORD_FILE") or REGISTRY_PASSWORD
)
# A bridge network of this name, made when missing; or host. On loopback only the host's network reaches the platform.
_ON_LOOPBACK = {urlsplit(PUBLIC_URL).hostname, MQTT_PUBLIC_HOST} & {"127.0.0.1", "localhost", "::1"}
INSTANCE_NETWORK = env.str("ROUNDTABLE_INSTANCE_NETWORK", default="host" if _ON_LOOPBACK else "roundtable")
IMAGES_KEEP_GIB = env.float("ROUNDTABLE_IMAGES_KEEP_GIB", default=20.0)  # on the engine; the least recently used go

# --- The object store that instances may use --------------------------------------------------------------------------
S3_ENDPOINT_URL = env.str("ROUNDTABLE_S3_ENDPOINT_URL", default="")
S3_BUCKET = env.str("ROUNDTABLE_S3_BUCKET", default="")  # empty: there is none
S3_REGION = env.str("ROUNDTABLE_S3_REGION", default="")
S3_ACCESS_KEY = env.str("ROUNDTABLE_S3_ACCESS_KEY", default="")
S3_SECRET_KEY = _secret("ROUNDTABLE_S3_SECRET_KEY", "ROUNDTABLE_S3_SECRET_KEY_FILE")

# --- Alerts: where they may be told -----------------------------------------------------------------------------------
# Networks that hooks and exports may reach although they are not public, such as 10.0.0.0/8.
OUTBOUND_NETWORKS = env.list("ROUNDTABLE_OUTBOUND_NETWORKS", default=[])
# smtp+tls://user:password@host:587; empty: no e-mail is sent.
_EMAIL_URL = _secret("ROUNDTABLE_EMAIL_URL", "ROUNDTABLE_EMAIL_URL_FILE")
EMAIL_CONFIGURED = bool(_EMAIL_URL)
_EMAIL = environ.Env.email_url_config(_EMAIL_URL or "dummymail://")
EMAIL_BACKEND = _EMAIL["EMAIL_BACKEND"]
EMAIL_HOST, EMAIL_PORT = _EMAIL.get("EMAIL_HOST") or "localhost", _EMAIL.get("EMAIL_PORT") or 25
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _EMAIL.get("EMAIL_HOST_USER"), _EMAIL.get("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS, EMAIL_USE_SSL = _EMAIL.get("EMAIL_USE_TLS", False), _EMAIL.get("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 10  # seconds
DEFAULT_FROM_EMAIL = env.str("ROUNDTABLE_EMAIL_FROM", default="roundtable@localhost")

# --- The Web API -----------------------------------------------------------------------------------------------------
API_CALLS_PER_MINUTE = env.int("ROUNDTABLE_API_CALLS_PER_MINUTE", default=1200)  # of each user; 0: no limit

# --- Watching the platform --------------------------------------------------------------------------------------------
METRICS_TOKEN = env.str("ROUNDTABLE_METRICS_TOKEN", default="")  # who reads /metrics; empty: this machine alone

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("ROUNDTABLE_LOG_LEVEL", default="INFO")},
}
