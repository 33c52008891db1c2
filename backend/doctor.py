"""Examine an installation, from inside or from outside, and report what to fix."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import httpx2
from sqlalchemy.exc import SQLAlchemyError

from backend import VERSION
from backend.agent.choice import OFFLINE_NAME, ModelChoice
from backend.agent.errors import KEPT
from backend.documents.embedding.build import Builds, Due
from backend.documents.embedding.current import current_model
from backend.documents.quota import in_words
from backend.edge.own_hosts import LOOPBACK_NAMES
from backend.errors import DatabaseUnavailable, NotReady
from backend.plain_text import storable
from backend.postgres.database import Database
from backend.postgres.embedded import EmbeddedPostgresError
from backend.postgres.schema import revisions
from backend.settings import Settings
from backend.wiring import find_postgres, keeping_rules, make_database, model_choice

KEYED = ("openai", "gemini", "anthropic")
"""The providers for whose API key there is a setting."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    name: str
    says: str
    is_bad: bool = False

    def __str__(self) -> str:
        """Return the finding as one line."""
        return f"{'FIX ' if self.is_bad else 'ok  '}  {self.name}: {storable(self.says)}"


def examine_here(settings: Settings) -> Iterator[Finding]:
    """Examine what the settings describe: the model, the database, its schema, and how clients reach the service."""
    yield Finding("version", VERSION)
    model = model_choice(settings).shown
    yield Finding("model", model)
    if model != OFFLINE_NAME and find_spec("litellm") is None:
        yield Finding("litellm", "it is not installed; run `make run` again", is_bad=True)
    provider = model.split("/", 1)[0]
    is_elsewhere = provider == "openai" and settings.openai_base_url is not None
    if provider in KEYED and provider not in model_choice(settings).keys and not is_elsewhere:
        yield Finding("key", f"{model} needs {provider.upper()}_API_KEY", is_bad=True)
    elif model != OFFLINE_NAME:
        yield from _refused(model_choice(settings))
    yield _guests(settings, model)
    yield from _database(settings)
    yield from _reach(settings)


def _refused(choice: ModelChoice) -> Iterator[Finding]:
    # LiteLLM takes seconds to import, so it is imported only when this check needs it.
    from backend.agent.providers import litellm_model

    if (refused := litellm_model(choice).refused) is not None:
        yield Finding("provider", str(refused).removesuffix(KEPT), is_bad=True)


def examine_url(url: str) -> Iterator[Finding]:
    """Examine an installation from outside, as its clients see it."""
    base = url.rstrip("/")
    with httpx2.Client(timeout=15, follow_redirects=False) as http:
        try:
            yield from _examined(http, base)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            yield Finding("address", f"{base} does not answer ({type(error).__name__}); check the address", is_bad=True)


def _examined(http: httpx2.Client, base: str) -> Iterator[Finding]:
    health = http.get(f"{base}/health")
    told = _json(health)
    if health.status_code != 200 or not {"version", "model"} <= told.keys():
        yield Finding("health", f"HTTP {health.status_code}: this is not DocuTalk, or it is down", is_bad=True)
        return
    yield Finding("health", f"version {told['version']}, model {told['model']}")
    if base.startswith("http://") and not _is_local(base):
        yield Finding("https", "tokens are sent unencrypted; put TLS in front of the service", is_bad=True)
    ready = http.get(f"{base}/ready")
    is_ready = ready.status_code == 200
    yield Finding("ready", "yes" if is_ready else _json(ready).get("detail", "no"), is_bad=not is_ready)
    database = http.get(f"{base}/health/db")
    connected = database.status_code == 200
    says = "connected" if connected else "unreachable; check DATABASE_URL and the database itself"
    yield Finding("database", says, is_bad=not connected)
    yield _mcp(http, base)
    page = http.get(base, headers={"Accept": "text/html"})
    has_policy = "content-security-policy" in page.headers
    yield Finding("page", "served" if has_policy else "something strips its security headers", is_bad=not has_policy)
    metrics = http.get(f"{base}/metrics")
    open_metrics = metrics.status_code == 200 and not _is_local(base)
    yield Finding("metrics", "open to everybody; set METRICS_TOKEN" if open_metrics else "guarded", is_bad=open_metrics)


def _json(answer: httpx2.Response) -> dict[str, Any]:
    """Return the JSON object in an answer, or an empty object for any other answer, for example from a proxy."""
    try:
        told = answer.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _mcp(http: httpx2.Client, base: str) -> Finding:
    answer = http.post(f"{base}/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "ping"})
    match answer.status_code:
        case 401:
            return Finding("mcp", "answers, and asks for a token")
        case 421:
            return Finding("mcp", f"refuses this host; set PUBLIC_URL={base}", is_bad=True)
        case status:
            return Finding("mcp", f"answers HTTP {status} without a token, instead of 401", is_bad=True)


def _database(settings: Settings) -> Iterator[Finding]:
    where = "DATABASE_URL" if settings.database_url else f"embedded, in {settings.data_dir}"
    try:
        postgres = find_postgres(settings)
    except EmbeddedPostgresError as error:
        yield Finding("database", f"{where}: {error}", is_bad=True)
        return
    database = make_database(settings)
    try:
        database.open(postgres.url, revive=postgres.revive)
        known = revisions()
        database.check(revisions=known)
        yield Finding("database", f"{where}: schema {known[0]}, row-level security in force")
        yield _embeddings(settings, database, postgres.migration_url)
    except NotReady as error:
        yield Finding("database", f"{where}: {error}", is_bad=True)
    except DatabaseUnavailable as error:
        yield Finding("database", f"{where}: {error.for_owner}", is_bad=True)
    finally:
        database.close()
        postgres.stop()


def _embeddings(settings: Settings, database: Database, owner_url: str) -> Finding:
    """Report the embedding model in use, and whether a build of embeddings is due.

    With the embedded database, `docutalk serve` runs builds itself. With any other database, the owner must run them.
    """
    with database.transaction(None) as session:
        _, in_use = current_model(session)
    try:
        due = Builds(owner_url).due(settings.embedding_model)
    except SQLAlchemyError:
        # Only the owner role can see all users' passages.
        wanted = settings.embedding_model or in_use
        why = f"EMBEDDING_MODEL is {wanted}" if wanted != in_use else ""
        unseen = "set MIGRATION_DATABASE_URL to the owner's URL to see whether a build is due"
    else:
        why, unseen = _why_due(due), ""
    if why and settings.database_url:
        return Finding("embeddings", f"{in_use} is in use, and {why}; run `docutalk embeddings build`", is_bad=True)
    if why:
        return Finding("embeddings", f"{in_use} is in use, and {why}; `docutalk serve` builds them by itself")
    return Finding("embeddings", f"{in_use} is in use; {unseen or 'no build is due'}")


def _why_due(due: Due) -> str:
    if due.wanted != due.in_use:
        return f"EMBEDDING_MODEL is {due.wanted}"
    if due.is_missing_any:
        return "some passages lack an embedding"
    return "a user has so many passages that they need an index" if due.is_index_due else ""


def _guests(settings: Settings, model: str) -> Finding:
    """Report the most that all guests together can use in a day."""
    if settings.guests == "off":
        return Finding("guests", "no new guests are allowed")
    turns, is_unlimited = settings.guest_model_turns_per_day, False
    if model == OFFLINE_NAME or settings.guests == "offline":
        answers = "all answers from the offline model"
    elif turns:
        requests = turns * settings.max_steps
        answers = (
            f"together at most {turns:,} answers a day from {model}, in at most {requests:,} requests if none has to "
            "be repeated; after that, answers from the offline model"
        )
    else:
        is_unlimited = settings.public_url is not None or settings.listens_publicly
        answers = f"any number of answers a day from {model}; to limit the cost, set GUEST_MODEL_TURNS_PER_DAY"
    per_hour, rules = settings.guests_per_hour, keeping_rules(settings)
    arrivals = f"at most {per_hour:,}" if per_hour else "any number of"
    together, each = (
        f"at most {in_words(most)}" if most else "any amount"
        for most in (rules.most_bytes_of_guests, rules.most_of(is_guest=True))
    )
    # A provider's model has a slash in its name. Its embeddings cost money, as its answers do, and only the storage
    # limit bounds that cost.
    embedded = settings.embedding_model or ""
    also = f"; what they upload and search is also sent to {embedded}" if "/" in embedded else ""
    return Finding(
        "guests",
        f"{answers}; {arrivals} new guests an hour from one address; {together} of documents together, {each} each"
        f"{also}",
        is_bad=is_unlimited,
    )


def _reach(settings: Settings) -> Iterator[Finding]:
    if settings.public_url is not None:
        yield Finding("address", settings.public_url)
    elif settings.listens_publicly:
        yield Finding(
            "address", "HOST is public and PUBLIC_URL is unset: set it to the address clients use", is_bad=True
        )
    else:
        yield Finding("address", f"http://{settings.host}:{settings.port}, this machine only")
    if settings.public_url and not settings.trusted_proxies:
        yield Finding(
            "proxies",
            "TRUSTED_PROXIES is unset: behind a proxy all visitors share its address, and so share one limit of "
            "guests and one of connections",
            is_bad=settings.environment == "production",
        )


def _is_local(base: str) -> bool:
    return any(base.startswith(f"http://{host}") for host in LOOPBACK_NAMES)
