"""Settings: where they come from, which values are refused, and what follows from them."""

import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import AliasChoices, SecretStr

from backend import settings as module
from backend.settings import PRIVATE_NETWORKS, InvalidSettings, Settings
from backend.wiring import keeping_rules

ROOT = Path(__file__).parent.parent
Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file into the otherwise empty directory from which the settings are loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "SECRETS_DIR", tmp_path / "secrets")

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write


def names_of(field: str) -> list[str]:
    """Return the environment variables for a setting."""
    alias = Settings.model_fields[field].validation_alias
    return [str(name) for name in alias.choices] if isinstance(alias, AliasChoices) else [field.upper()]


def revealed(value: SecretStr | None) -> str | None:
    """Return a secret's value."""
    return None if value is None else value.get_secret_value()


@pytest.mark.spec("SET-1")
def test_the_example_lists_every_setting_once_with_a_comment() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    listed = [index for index, line in enumerate(lines) if re.match(r"^# [A-Z][A-Z0-9_]*=", line)]
    names = [lines[index].removeprefix("# ").split("=", 1)[0] for index in listed]

    assert len(names) == len(set(names))
    assert set(names) == {names_of(field)[0] for field in Settings.model_fields}
    for index in listed:
        assert re.match(r"^# .+\.$", lines[index - 1]), f"{lines[index]} has no sentence before it."


@pytest.mark.spec("SET-1")
def test_the_example_changes_nothing_when_it_is_used(write: Write) -> None:
    plain = Settings.load().model_dump()
    example = (ROOT / ".env.example").read_text()
    write(".env", re.sub(r"(?m)^# (?=[A-Z][A-Z0-9_]*=)", "", example))

    assert Settings.load().model_dump() == plain


@pytest.mark.spec("SET-2")
def test_nothing_is_needed() -> None:
    settings = Settings.load()

    assert (settings.host, settings.port, settings.chosen_model) == ("127.0.0.1", 8000, "offline")
    assert settings.database_url is None
    assert (settings.guests, settings.guest_turns_per_day, settings.guests_per_hour) == ("on", 30, 100)
    assert settings.guest_model_turns_per_day == 500
    assert settings.cors_origins == [f"http://localhost:{port}" for port in (3000, 5173, 5174, 8000)]


@pytest.mark.spec("SET-3")
def test_other_names_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("API_HOST", "::"), ("API_PORT", "9000"), ("NEON_DATABASE_URL", "postgresql://neon/x")):
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert (settings.host, settings.port) == ("::", 9000)
    assert revealed(settings.database_url) == "postgresql://neon/x"

    for name, value in (("HOST", "::1"), ("PORT", "9001"), ("DATABASE_URL", "postgresql://mine/x")):
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert (settings.host, settings.port) == ("::1", 9001)
    assert revealed(settings.database_url) == "postgresql://mine/x"


@pytest.mark.spec("SET-4")
def test_the_nearer_place_wins(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(".env", "DATABASE_URL=postgresql://base/x\nMODEL=base\nMAX_STEPS=1\n")
    assert revealed(Settings.load().database_url) == "postgresql://base/x"

    write(".env.development", "DATABASE_URL=postgresql://development/x\nMODEL=development\n")
    write(".env.production", "DATABASE_URL=postgresql://production/x\n")
    assert revealed(Settings.load().database_url) == "postgresql://development/x"
    assert Settings.load().max_steps == 1

    write("secrets/DATABASE_URL", "postgresql://secret/x\n")
    assert revealed(Settings.load().database_url) == "postgresql://secret/x"

    monkeypatch.setenv("DATABASE_URL_FILE", str(write("file", "postgresql://file/x")))
    assert revealed(Settings.load().database_url) == "postgresql://file/x"

    monkeypatch.setenv("NEON_DATABASE_URL", "postgresql://environment/x")
    assert revealed(Settings.load().database_url) == "postgresql://environment/x"
    assert Settings.load().model == "development"


@pytest.mark.spec("SET-4")
@pytest.mark.parametrize("place", ["environment", "file"])
def test_the_environment_chooses_its_file(write: Write, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    write(".env.test", "MODEL=of-test")
    write(".env.development", "MODEL=of-development")
    assert Settings.load().model == "of-development"

    if place == "environment":
        monkeypatch.setenv("ENVIRONMENT", "test")
    else:
        write(".env", "ENVIRONMENT=test")

    assert (Settings.load().environment, Settings.load().model) == ("test", "of-test")


@pytest.mark.spec("SET-5")
@pytest.mark.parametrize("text", ["", "\n", "  \n"])
def test_an_empty_secret_is_not_set(write: Write, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    for name in ("OPENAI_API_KEY", "BETTER_AUTH_SECRET", "SECRET_KEY", "DATABASE_URL"):
        write(f"secrets/{name}", text)
    monkeypatch.setenv("GEMINI_API_KEY_FILE", str(write("gemini", text)))
    monkeypatch.setenv("MODEL", "")
    monkeypatch.setenv("CORS_ORIGINS", "")

    settings = Settings.load()

    assert (settings.openai_api_key, settings.better_auth_secret, settings.secret_key) == (None, None, None)
    assert (settings.gemini_api_key, settings.database_url, settings.chosen_model) == (None, None, "offline")
    assert len(settings.cors_origins) == 4


@pytest.mark.spec("SET-5")
def test_a_file_that_cannot_be_read_is_told_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY_FILE", "/nowhere/key")

    with pytest.raises(
        InvalidSettings, match=r"^SECRET_KEY: /nowhere/key cannot be read: No such file or directory\.$"
    ):
        Settings.load()


@pytest.mark.spec("SET-6")
def test_production_demands_a_key_and_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(InvalidSettings, match="ENVIRONMENT=production needs SECRET_KEY and PUBLIC_URL"):
        Settings.load()

    monkeypatch.setenv("SECRET_KEY", "k" * 32)
    with pytest.raises(InvalidSettings, match="needs PUBLIC_URL"):
        Settings.load()

    monkeypatch.setenv("PUBLIC_URL", "https://docutalk.example.com/")
    assert Settings.load().public_url == "https://docutalk.example.com"


@pytest.mark.spec("SET-7")
@pytest.mark.parametrize(
    ("variable", "value", "guessed"),
    [
        ("RENDER_EXTERNAL_URL", "https://x.onrender.com", "https://x.onrender.com"),
        ("RAILWAY_PUBLIC_DOMAIN", "x.up.railway.app", "https://x.up.railway.app"),
        ("FLY_APP_NAME", "x", "https://x.fly.dev"),
        ("SPACE_HOST", "me-x.hf.space", "https://me-x.hf.space"),
    ],
)
def test_the_address_is_guessed_where_a_host_tells_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, guessed: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert (Settings.load().public_url, Settings.load().trusted_proxies) == (guessed, PRIVATE_NETWORKS)

    monkeypatch.setenv("TRUSTED_PROXIES", "10.1.0.0/16, 192.0.2.1")
    assert Settings.load().trusted_proxies == ["10.1.0.0/16", "192.0.2.1"]

    monkeypatch.setenv("PUBLIC_URL", "https://mine.example.com")
    assert Settings.load().public_url == "https://mine.example.com"
    assert Settings.load().trusted_proxies == ["10.1.0.0/16", "192.0.2.1"]
    monkeypatch.delenv("TRUSTED_PROXIES")
    assert (Settings.load().public_url, Settings.load().trusted_proxies) == (
        "https://mine.example.com",
        PRIVATE_NETWORKS,
    )
    monkeypatch.delenv(variable)
    assert (Settings.load().public_url, Settings.load().trusted_proxies) == ("https://mine.example.com", [])


@pytest.mark.spec("SET-8")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CORS_ORIGINS", "*", "every site act for your users"),
        ("CORS_ORIGINS", "https://a.example.com,*", "every site act for your users"),
        ("CORS_ORIGINS", "https://a.example.com/app", "is not an origin"),
        ("CORS_ORIGINS", "a.example.com", "is not an origin"),
        ("OPENAI_BASE_URL", "localhost:1234/v1", "http://localhost"),
        ("OPENAI_BASE_URL", "htp://localhost:1234/v1", "http://localhost"),
        ("OPENAI_BASE_URL", "http://", "http://localhost"),
        ("OPENAI_BASE_URL", "http://[::1/v1", "OPENAI_BASE_URL"),
        ("PUBLIC_URL", "docutalk.example.com", "write it like https://"),
        ("PUBLIC_URL", "https://docutalk.example.com/app", "without a path"),
        ("TRUSTED_PROXIES", "the proxy", "does not appear to be"),
        ("BETTER_AUTH_SECRET", "only 31 bytes of a secret......", "fewer than 32 bytes"),
        ("PORT", "http", "valid integer"),
        ("PORT", "70000", "less than or equal to 65535"),
        ("GUESTS", "maybe", "'on', 'offline' or 'off'"),
        ("ENVIRONMENT", "staging", "'development', 'test' or 'production'"),
        ("LOG_LEVEL", "loud", "'DEBUG', 'INFO'"),
        ("GUEST_TURNS_PER_DAY", "-1", "greater than or equal to 0"),
        ("GUEST_MODEL_TURNS_PER_DAY", "-1", "greater than or equal to 0"),
        ("MAX_BYTES_OF_GUESTS", "much", "valid integer"),
    ],
)
def test_what_cannot_be_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(InvalidSettings) as error:
        Settings.load()

    [line] = str(error.value).splitlines()
    assert line.startswith(f"{name}: ")
    assert said in line
    assert line.endswith(".")
    assert "of a secret" not in line.replace("a secret of fewer", "")


@pytest.mark.spec("SET-9")
def test_the_first_key_chooses_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    for name in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "key")
        chosen.append(Settings.load().chosen_model.split("/")[0])
    assert chosen == ["anthropic", "gemini", "openai"]

    monkeypatch.setenv("MODEL", "offline")
    assert Settings.load().chosen_model == "offline"


@pytest.mark.spec("SET-10")
def test_guests_get_the_model_in_production_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    for name, value in (("ENVIRONMENT", "production"), ("SECRET_KEY", "k" * 32), ("PUBLIC_URL", "https://x.example")):
        monkeypatch.setenv(name, value)
    assert Settings.load().guests == "on"

    monkeypatch.setenv("GUESTS", "offline")
    assert Settings.load().guests == "offline"


@pytest.mark.spec("DOC-28")
def test_all_guests_may_store_a_tenth_of_the_disk_that_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "is" / "made" / "later"))
    tenth = shutil.disk_usage(tmp_path).total // 10
    assert keeping_rules(Settings.load()).most_bytes_of_guests == tenth

    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere/x")
    assert keeping_rules(Settings.load()).most_bytes_of_guests == 256 * 2**20

    for given in (0, 7):
        monkeypatch.setenv("MAX_BYTES_OF_GUESTS", str(given))
        assert keeping_rules(Settings.load()).most_bytes_of_guests == given


@pytest.mark.spec("SET-11")
def test_a_secret_is_made_once_and_kept_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))

    first, second = Settings.load().secret(), Settings.load().secret()

    assert first == second
    assert re.fullmatch(r"[0-9a-f]{64}", first)
    [kept] = (tmp_path / "data").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    monkeypatch.setenv("SECRET_KEY", "mine")
    assert Settings.load().secret() == "mine"


@pytest.mark.spec("SET-12")
def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = (
        "SECRET_KEY",
        "BETTER_AUTH_SECRET",
        "OPENAI_API_KEY",
        "GEMINI_API_KEY",
        "ANTHROPIC_API_KEY",
        "METRICS_TOKEN",
        "DATABASE_URL",
        "MIGRATION_DATABASE_URL",
    )
    for name in secrets:
        monkeypatch.setenv(name, "marker-" + "x" * 40)

    assert "marker" not in repr(Settings.load())
    assert "marker" not in str(Settings.load())
