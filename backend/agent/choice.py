"""Which model answers, and how it is reached."""

from dataclasses import dataclass, field
from typing import Literal

from backend.agent.offline.patterns import NAME

OFFLINE = "offline"
OFFLINE_NAME = NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Which model answers, and how it is reached."""

    name: str = OFFLINE
    """`offline`, or a LiteLLM name."""
    keys: dict[str, str] = field(default_factory=dict)
    """API keys by the provider's LiteLLM prefix; LiteLLM finds those of others in the environment."""
    base_url: str | None = None
    """Where an OpenAI-compatible server is, for names that begin with `openai/`."""
    streaming: bool = True
    timeout_seconds: float = 120.0
    guests_get: Literal["on", "offline", "off"] = "on"

    @property
    def shown(self) -> str:
        """The model's name as users see it."""
        return OFFLINE_NAME if self.name == OFFLINE else self.name
