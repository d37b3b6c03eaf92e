"""Every setting of the control plane; the only reader of the environment.

Called by ``__main__`` and ``app``. A bound that a user can meet is here, with its unit in its name.
"""

import contextlib
import os
import platform
import secrets
import sys
from datetime import timedelta
from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from gateway.contract import bundle


class Settings(BaseSettings):
    """Environment variables are named ``TAILCUT_…``, except ``DATABASE_URL`` and ``REDIS_URL``."""

    model_config = SettingsConfigDict(env_prefix="TAILCUT_", frozen=True, extra="ignore", populate_by_name=True)

    data_dir: Path = Path("var")
    host: str = "127.0.0.1"
    control_plane_port: int = Field(default=8000, ge=0, le=65535)
    control_plane_url: str = ""
    """How users reach this process; it leads every error's ``type``."""
    gateway_url: str = "http://127.0.0.1:8080"
    database_url: str = Field(default="", validation_alias=AliasChoices("database_url", "DATABASE_URL"))
    redis_url: str = Field(default="", validation_alias=AliasChoices("redis_url", "REDIS_URL"))
    """Empty: no gateway hears of changes (said in the log and by /readyz)."""
    bundle_store_url: str = ""
    operator_token: str = ""
    """Empty: made at the first start and kept in ``operator-token`` in the data folder."""
    operator_second_factor: bool = True
    """Whether people who are operators must have given a second factor; false is for development."""
    sealing_key: str = ""
    """Empty: made at the first start and kept in ``sealing-key`` in the data folder. Control planes share it."""
    runtime_python: str = f"{sys.version_info.major}.{sys.version_info.minor}"
    """The Python that functions run on."""

    tier_catalog: Path = Path(__file__).with_name("tiers") / "catalog.toml"
    """What there is to buy; control_plane/tiers/catalog.py says what such a file holds."""

    stripe_api_key: str = Field(
        default="", repr=False, validation_alias=AliasChoices("stripe_api_key", "STRIPE_API_KEY")
    )
    """Empty: nothing can be bought (`tailcut-server up` then starts a simulated Stripe and sets it)."""
    stripe_webhook_secret: str = Field(
        default="", repr=False, validation_alias=AliasChoices("stripe_webhook_secret", "STRIPE_WEBHOOK_SECRET")
    )
    stripe_url: str = ""
    """Where Stripe's API is, if not at Stripe."""
    stripe_tax: bool = True
    """Let Stripe compute taxes (Stripe Tax must be set up there) and ask buyers for address and tax number."""
    webhook_tolerance: timedelta = timedelta(minutes=5)
    """By how much the time stamp of a webhook may differ from our clock, either way."""
    billing_interval: timedelta = timedelta(seconds=5)
    """How often webhooks and meter events that wait are looked for when nobody has rung."""
    dunning_interval: timedelta = timedelta(minutes=5)
    reconcile_interval: timedelta = timedelta(hours=24)
    """How often our books are compared with Stripe's without being asked."""
    usage_hour_grace: timedelta = timedelta(minutes=5)
    """After its end an hour waits so long for late usage before it is billed; what comes later is billed as well."""
    payment_grace: timedelta = timedelta(days=14)
    """After an unpaid invoice the tier stays for so long."""
    period_watch_interval: timedelta = timedelta(seconds=10)
    """How often it is looked whether somebody's month has ended."""
    alert_interval: timedelta = timedelta(seconds=5)
    """How often it is looked whether usage that was booked meanwhile has reached a threshold."""
    webhook_retry_first: timedelta = timedelta(seconds=10)
    """After a webhook was not delivered; each further pause is four times as long, up to an hour, for a day."""
    webhook_private_addresses: bool = False
    """For development: webhooks of tenants may go to private and loopback addresses, and by plain http."""
    stripe_simulated: bool = False
    """Purchases are simulated: no money moves, and every page and answer says so."""

    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    request_bytes_max: int = Field(default=2**20, ge=1024)
    """Of a request that is not an upload."""
    archive_bytes_max: int = Field(default=bundle.ARCHIVE_BYTES_MAX, ge=1024, le=bundle.ARCHIVE_BYTES_MAX)
    uploads_max: int = Field(default=8, ge=1, le=256)
    """Uploads received or checked at once; more are 503."""
    upload_idle_timeout: timedelta = timedelta(seconds=30)
    """Without a byte from the sender."""
    keys_per_tenant_max: int = Field(default=1000, ge=1)
    functions_per_tenant_max: int = Field(default=1000, ge=1)
    versions_in_table_max: int = Field(default=3, ge=1, le=50)
    """Newest versions of a function that gateways know besides those that an alias names."""
    idempotency_retention: timedelta = timedelta(hours=24)
    outbox_retention: timedelta = timedelta(days=7)
    session_lifetime: timedelta = timedelta(days=7)
    """From log-in, however much it is used."""
    session_idle_timeout: timedelta = timedelta(hours=12)
    """Without a request."""
    confirmation_window: timedelta = Field(default=timedelta(minutes=15), gt=timedelta(0), le=timedelta(days=1))
    """For as long after the password was given, a session may make keys, members and owners, change the second factor
    and delete the tenant; then it is asked for again."""
    log_ins_per_email_max: int = Field(default=10, ge=1)
    """Failed log-ins per ``log_in_window`` for one e-mail address from one network address; ten times as many from
    all of them."""
    log_ins_per_address_max: int = Field(default=100, ge=1)
    """Failed log-ins per ``log_in_window`` from one network address."""
    log_in_window: timedelta = timedelta(minutes=15)
    mails_per_email_max: int = Field(default=5, ge=1)
    """Sign-up and reset mails per ``mail_window`` to one e-mail address."""
    mails_per_address_max: int = Field(default=50, ge=1)
    mail_window: timedelta = timedelta(hours=1)
    sign_up_open: bool = True
    """Whether anybody may sign up; else members come by invitation and tenants from the operator."""
    sign_up_link_lifetime: timedelta = timedelta(hours=24)
    reset_link_lifetime: timedelta = timedelta(minutes=30)
    sign_in_link_lifetime: timedelta = timedelta(hours=1)
    invitation_lifetime: timedelta = timedelta(days=7)
    members_per_tenant_max: int = Field(default=200, ge=1)
    """With the invitations."""
    deletion_drain_time: timedelta = timedelta(seconds=30)
    """Between a tenant's deletion, after which gateways admit nothing for it, and the removal of its data."""
    smtp_url: str = ""
    """``smtp://user:password@host:587`` (STARTTLS) or ``smtps://…:465``. Empty: mails are printed to the log."""
    smtp_timeout: timedelta = timedelta(seconds=30)
    mail_from: str = "Tailcut <tailcut@localhost>"
    forwarded_for_count: int = Field(default=0, ge=0, le=8)
    """Proxies in front that append to ``X-Forwarded-For``; 0: the header is not believed."""
    log_bytes_per_minute_max: int = Field(default=2**20, ge=1024)
    """Of what one tenant's functions print, with 200 bytes a line; more is not kept here, and the log says so."""
    log_bytes_burst_max: int = Field(default=8 * 2**20, ge=1024)
    """So much at once."""
    log_lines_per_tenant_max: int = Field(default=100_000, ge=100)
    """The newest; how long they are kept at most, the tier says."""
    relay_interval: timedelta = timedelta(seconds=2)
    """How often the relay compares Redis with SQL when nobody has woken it."""
    shutdown_timeout: timedelta = timedelta(seconds=10)

    @property
    def effective_database_url(self) -> str:
        """With the async driver that SQLAlchemy needs."""
        url = self.database_url or f"sqlite+aiosqlite:///{(self.private_dir / 'database.sqlite').resolve()}"
        for plain, driver in (
            ("sqlite://", "sqlite+aiosqlite://"),
            ("postgresql://", "postgresql+asyncpg://"),
            ("postgres://", "postgresql+asyncpg://"),
        ):
            if url.startswith(plain):
                return driver + url.removeprefix(plain)
        return url

    @property
    def effective_bundle_store_url(self) -> str:
        return self.bundle_store_url or (self.data_dir.resolve() / "bundles").as_uri()

    @property
    def public_url(self) -> str:
        return (self.control_plane_url or f"http://{self.host}:{self.control_plane_port}").rstrip("/")

    @property
    def is_https(self) -> bool:
        """As browsers see us."""
        return self.public_url.startswith("https://")

    @property
    def public_gateway_url(self) -> str:
        return self.gateway_url.rstrip("/")

    @property
    def upgrade_url(self) -> str:
        """Where a larger tier can be bought; it is in refusals of gateways."""
        return f"{self.public_url}/billing"

    @property
    def private_dir(self) -> Path:
        """What only this process reads: the database and uploads under way."""
        return self.data_dir / "control-plane"

    @property
    def staging_dir(self) -> Path:
        return self.private_dir / "staging"

    @property
    def operator_token_file(self) -> Path:
        return self.data_dir / "operator-token"

    @property
    def runtime_platform(self) -> str:
        """What ``uv pip install --python-platform`` calls this machine: wheels must run here."""
        machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        libc, version = platform.libc_ver()
        if libc != "glibc":
            return f"{machine}-unknown-linux-musl"
        minor = int(version.split(".")[1])
        known = [known for known in (17, 28, *range(31, 41)) if known <= minor]
        return f"{machine}-manylinux_2_{known[-1]}" if known else f"{machine}-unknown-linux-gnu"

    def prepare_data_dir(self) -> None:
        """Make the folders that must be there before the first request."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.private_dir.mkdir(mode=0o700, exist_ok=True)
        self.staging_dir.mkdir(mode=0o700, exist_ok=True)

    def load_operator_token(self) -> str:
        """The operator's token: the setting, else the file's, which is made with mode 0600 if it is not there."""
        return self.operator_token or _secret_of(self.operator_token_file, "tco_")

    def load_sealing_key(self) -> bytes:
        """What ``auth.sealing`` seals with: the setting, else the file's, made like the operator's token."""
        return (self.sealing_key or _secret_of(self.data_dir / "sealing-key", "")).encode()


def _secret_of(path: Path, prefix: str) -> str:
    """Linked into place when it is whole: two processes that start at once agree, and none reads half of it."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(prefix + secrets.token_hex(32) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()
