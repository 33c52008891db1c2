"""Every setting, read once at the start. Only `wiring`, the modules above it, and the migrations import this module."""

import ipaddress
import os
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SECRETS_DIR = Path("/run/secrets")
LOCAL_ORIGINS = [f"http://localhost:{port}" for port in (3000, 5173, 5174, 8000)]
PRIVATE_NETWORKS = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"]
"""The networks in which hosting providers run the proxy in front of a container. They are trusted only if environment
variables show a hosting provider that we know."""
DEFAULT_MODELS = (
    ("openai_api_key", "openai/gpt-5-mini"),
    ("gemini_api_key", "gemini/gemini-2.5-flash"),
    ("anthropic_api_key", "anthropic/claude-haiku-4-5"),
)
"""The default model for each provider's key, used if MODEL is not set. If several keys are set, the first entry wins.
"""

CommaSeparated = Annotated[list[str], NoDecode]


class InvalidSettings(Exception):
    """Some settings are invalid. The message has one line for each of them, with the setting's name and what to do."""


class Settings(BaseSettings):
    """The service's settings.

    A setting is read from the first of these places that has it: the environment, the file whose path is in
    `NAME_FILE`, a file in `/run/secrets`, `.env.{ENVIRONMENT}`, and `.env`. An empty value counts as missing.
    """

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, populate_by_name=True)

    environment: Literal["development", "test", "production"] = "development"
    debug: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    data_dir: Path = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "docutalk"

    host: str = Field("127.0.0.1", validation_alias=AliasChoices("HOST", "API_HOST"))
    port: int = Field(8000, ge=0, le=65535, validation_alias=AliasChoices("PORT", "API_PORT"))
    mcp_host: str | None = None
    mcp_port: int | None = Field(None, ge=0, le=65535)
    public_url: str | None = None
    trusted_proxies: CommaSeparated = []
    cors_origins: CommaSeparated = LOCAL_ORIGINS

    database_url: SecretStr | None = Field(None, validation_alias=AliasChoices("DATABASE_URL", "NEON_DATABASE_URL"))
    migration_database_url: SecretStr | None = None
    migrate_on_start: bool = True
    db_pool_size: int = Field(20, ge=1, le=1000)
    db_max_overflow: int = Field(0, ge=0, le=1000)
    db_pool_recycle: int = Field(3600, ge=-1)
    db_pool_pre_ping: bool = True

    secret_key: SecretStr | None = None
    better_auth_secret: SecretStr | None = None
    better_auth_issuer: str | None = None
    better_auth_audience: str | None = None

    model: str | None = None
    model_streaming: bool = True
    model_timeout_seconds: int = Field(120, ge=1, le=3600)
    openai_api_key: SecretStr | None = None
    openai_base_url: str | None = None
    gemini_api_key: SecretStr | None = None
    anthropic_api_key: SecretStr | None = None

    guests: Literal["on", "offline", "off"] = "on"
    guest_model_turns_per_day: int = Field(500, ge=0, le=1_000_000_000)
    guest_turns_per_day: int = Field(30, ge=0)
    guests_per_hour: int = Field(100, ge=0)
    guest_days: int = Field(30, ge=1, le=3650)
    max_connections_per_address: int = Field(100, ge=0, le=1_000_000)
    chat_wait_seconds: int = Field(60, ge=1, le=600)
    max_concurrent_runs: int = Field(64, ge=1, le=1000)
    lease_seconds: float = Field(15, ge=1, le=300)
    run_events_days: int = Field(30, ge=2, le=3650)
    max_steps: int = Field(12, ge=1, le=100)
    history_messages: int = Field(40, ge=0, le=1000)
    history_characters: int = Field(60_000, ge=0, le=2_000_000)
    access_log_days: int = Field(30, ge=1, le=3650)
    keep_deleted_days: int = Field(30, ge=1, le=3650)
    metrics_token: SecretStr | None = None

    embedding_model: str | None = None
    store_originals: bool = True
    document_days: int = Field(30, ge=1, le=3650)
    max_upload_bytes: int = Field(25 * 2**20, ge=0)
    max_bytes_per_user: int = Field(256 * 2**20, ge=0)
    max_bytes_per_guest: int = Field(32 * 2**20, ge=0)
    max_bytes_of_guests: int | None = Field(None, ge=0)
    max_bytes_total: int = Field(0, ge=0)
    max_concurrent_ingestions: int = Field(1, ge=0, le=64)
    parse_seconds: int = Field(120, ge=1, le=3600)
    parse_memory_mb: int = Field(1024, ge=128, le=65536)
    max_pages: int = Field(5000, ge=1, le=100_000)
    max_characters: int = Field(20_000_000, ge=1000, le=500_000_000)

    @classmethod
    def load(cls, directory: Path = Path()) -> Self:
        """Read the settings, with `.env` from `directory`; raise InvalidSettings with a line for each wrong setting."""
        base = directory / ".env"
        environment = os.environ.get("ENVIRONMENT") or dotenv_values(base).get("ENVIRONMENT") or "development"
        try:
            return cls(_env_file=(base, directory / f".env.{environment}"), **_from_files(cls))
        except ValidationError as error:
            raise InvalidSettings(_explained(error)) from None

    @field_validator("trusted_proxies", "cors_origins", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: list[str]) -> list[str]:
        for item in value:
            ipaddress.ip_network(item, strict=False)
        return value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, value: list[str]) -> list[str]:
        for item in value:
            parts = urlsplit(item)
            if item == "*":
                raise ValueError("'*' would let every site act for your users; list the origins instead")
            if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
                raise ValueError(f"{item!r} is not an origin; write it like https://app.example.com")
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @field_validator("better_auth_secret")
    @classmethod
    def _check_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value().encode()) < 32:
            raise ValueError(
                "a secret of fewer than 32 bytes can be guessed; create a longer one with `openssl rand -hex 32`"
            )
        return value

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ValueError("write it like https://docutalk.example.com, without a path")
        return f"{parts.scheme}://{parts.netloc}"

    @field_validator("openai_base_url")
    @classmethod
    def _check_openai_base_url(cls, value: str | None) -> str | None:
        # A port that is not a number passes this check, because urlsplit reports it only when `port` is read.
        if value is not None and not (urlsplit(value).scheme in ("http", "https") and urlsplit(value).hostname):
            raise ValueError("write it like http://localhost:11434/v1")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.data_dir = self.data_dir.expanduser().absolute()
        if (hosted_at := _guessed_public_url()) is not None:
            self.public_url = self.public_url or hosted_at
            if "trusted_proxies" not in self.model_fields_set:
                self.trusted_proxies = PRIVATE_NETWORKS
        if self.environment == "production":
            missing = [name for name in ("secret_key", "public_url") if getattr(self, name) is None]
            if missing:
                names = " and ".join(name.upper() for name in missing)
                raise ValueError(f"ENVIRONMENT=production needs {names}")
        return self

    @property
    def chosen_model(self) -> str:
        """The LiteLLM name of the model that answers, or `offline`."""
        if self.model:
            return self.model
        return next((model for key, model in DEFAULT_MODELS if getattr(self, key) is not None), "offline")

    @property
    def listens_publicly(self) -> bool:
        """Whether the service binds to every address."""
        return self.host in ("0.0.0.0", "::")  # noqa: S104  # compared, not bound

    def secret(self) -> str:
        """Return SECRET_KEY. In development, the first run creates the key and stores it under DATA_DIR."""
        if self.secret_key is not None:
            return self.secret_key.get_secret_value()
        path = self.data_dir / "secret_key"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            # The complete file is linked into place, so that two processes that start at once use the same key.
            draft = path.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")
            draft.touch(mode=0o600, exist_ok=False)
            draft.write_text(secrets.token_hex(32))
            try:
                os.link(draft, path)
            finally:
                draft.unlink()
        except FileExistsError:
            pass
        return path.read_text().strip()


def _from_files(settings: type[BaseSettings]) -> dict[str, Any]:
    """Return the settings from files, by the name that pydantic expects. A setting in the environment is left out."""
    given: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        alias = field.validation_alias
        names = [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [name.upper()]
        if any(os.environ.get(variable) for variable in names):
            continue
        for variable in names:
            secret = SECRETS_DIR / variable
            path = os.environ.get(f"{variable}_FILE") or (secret if secret.is_file() else None)
            if path and (content := _content(variable, Path(path))):
                given[names[0] if alias else name] = content
                break
    return given


def _content(variable: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidSettings(f"{variable}: {path} cannot be read: {reason}.") from None


def _guessed_public_url() -> str | None:
    """Return the public URL from the variables that Render, Railway, Fly or Spaces set, or None."""
    if url := os.environ.get("RENDER_EXTERNAL_URL"):
        return url.rstrip("/")
    for variable, pattern in (
        ("RAILWAY_PUBLIC_DOMAIN", "https://{}"),
        ("FLY_APP_NAME", "https://{}.fly.dev"),
        ("SPACE_HOST", "https://{}"),
    ):
        if value := os.environ.get(variable):
            return pattern.format(value)
    return None


def _explained(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(problem["loc"][0]).upper() if problem["loc"] else "Settings"
        lines.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}.")
    return "\n".join(lines)
