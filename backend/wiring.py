"""Build objects from the settings."""

import os
import shutil
from collections.abc import Callable
from functools import partial

from backend.agent.choice import ModelChoice
from backend.documents.embedding.choose import embedder
from backend.documents.embedding.embedder import Embedder
from backend.documents.quota import KeepingRules
from backend.documents.reading.reader import Limits
from backend.identity.authenticator import Authenticator, BetterAuth, GuestRules
from backend.postgres.database import Database
from backend.postgres.installation import Postgres
from backend.settings import Settings

GUESTS_PART_OF_DISK = 10
"""The limit for all guests' documents together is the size of the embedded database's disk divided by this number."""
UNSEEN_ROOM_OF_GUESTS = 256 * 2**20
"""The limit in bytes for all guests' documents together if the database is not embedded, so that its disk size is
unknown."""


def make_database(settings: Settings) -> Database:
    """Return a database with the connection pool from the settings. It is not opened yet."""
    return Database(
        pool_size=settings.db_pool_size,
        max_overflow=settings.db_max_overflow,
        pool_recycle=settings.db_pool_recycle,
        pool_pre_ping=settings.db_pool_pre_ping,
    )


def find_postgres(settings: Settings) -> Postgres:
    """Return the PostgreSQL that the settings name. If they name none, start or join the embedded one."""
    url, migration_url = settings.database_url, settings.migration_database_url
    return Postgres.at(
        url=url.get_secret_value() if url else None,
        migration_url=migration_url.get_secret_value() if migration_url else None,
        data_dir=settings.data_dir,
    )


def make_authenticator(settings: Settings, database: Database) -> Authenticator:
    """Return an authenticator for all kinds of credentials that the settings allow."""
    secret = settings.better_auth_secret
    better_auth = (
        BetterAuth(secret.get_secret_value(), settings.better_auth_issuer, settings.better_auth_audience)
        if secret
        else None
    )
    guests = GuestRules(get=settings.guests, per_hour=settings.guests_per_hour, days=settings.guest_days)
    return Authenticator(database, secret=settings.secret, guests=guests, better_auth=better_auth)


def model_choice(settings: Settings) -> ModelChoice:
    """Return which model answers, with the API keys and the server address that it needs."""
    keys = {
        "openai": settings.openai_api_key,
        "gemini": settings.gemini_api_key,
        "anthropic": settings.anthropic_api_key,
    }
    return ModelChoice(
        name=settings.chosen_model,
        keys={provider: key.get_secret_value() for provider, key in keys.items() if key is not None},
        base_url=settings.openai_base_url,
        streaming=settings.model_streaming,
        timeout_seconds=settings.model_timeout_seconds,
        guests_get=settings.guests,
    )


def embedder_maker(settings: Settings) -> Callable[[str], Embedder]:
    """Return a function that takes a model's name and returns an embedder, which uses the keys from the settings."""
    return partial(
        embedder,
        keys=model_choice(settings).keys,
        base_url=settings.openai_base_url,
        timeout_seconds=settings.model_timeout_seconds,
    )


def keeping_rules(settings: Settings) -> KeepingRules:
    """Return the limits on stored documents, and whether original files are stored."""
    return KeepingRules(
        most_bytes_of_a_user=settings.max_bytes_per_user,
        most_bytes_of_a_guest=settings.max_bytes_per_guest,
        most_bytes_of_guests=_room_of_guests(settings),
        most_bytes=settings.max_bytes_total,
        store_originals=settings.store_originals,
    )


def _room_of_guests(settings: Settings) -> int:
    if settings.max_bytes_of_guests is not None:
        return settings.max_bytes_of_guests
    if settings.database_url is not None:
        return UNSEEN_ROOM_OF_GUESTS
    there = next(path for path in (settings.data_dir, *settings.data_dir.parents) if os.access(path, os.F_OK))
    return shutil.disk_usage(there).total // GUESTS_PART_OF_DISK


def reading_limits(settings: Settings) -> Limits:
    """Return the limits for reading one file."""
    return Limits(
        seconds=settings.parse_seconds,
        memory_mb=settings.parse_memory_mb,
        pages=settings.max_pages,
        characters=settings.max_characters,
    )
