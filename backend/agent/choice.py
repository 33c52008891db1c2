"""Which model answers, and how it is reached."""

from dataclasses import dataclass, field
from typing import Literal

OFFLINE = "offline"
OFFLINE_NAME = "offline-rules-1"
"""What the offline model calls itself, to users and in rows."""

_UNREPORTED = frozenset(
    {
        "a2a",
        "aiohttp_openai",
        "amazon_nova",
        "anthropic_text",
        "azure_ai/agents",
        "azure_text",
        "bedrock/agent",
        "bedrock/agentcore",
        "bedrock/async_invoke",
        "bedrock/claude_platform",
        "bedrock/converse_like",
        "bedrock/mantle",
        "bedrock/openai",
        "bytez",
        "chatgpt",
        "custom",
        "fal_ai",
        "gdc",
        "gigachat",
        "github_copilot",
        "gradient_ai",
        "langflow",
        "langgraph",
        "maritalk",
        "nlp_cloud",
        "oci",
        "oobabooga",
        "openai_like",
        "petals",
        "predibase",
        "replicate",
        "sagemaker",
        "sagemaker_chat",
        "sagemaker_nova",
        "sap",
        "snowflake",
        "text-completion-codestral",
        "text-completion-inception",
        "text-completion-openai",
        "triton",
        "vllm",
        "watsonx_text",
    }
)
"""What LiteLLM's names begin with where it loses how a response ended, or was not shown to keep it."""


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


def reports_endings(name: str) -> bool:
    """Tell whether LiteLLM reports how a model's responses end, as far as its name says; the provider comes first."""
    if name.startswith(("vertex_ai/", "vertex_ai_beta/")):
        return "gemini" in name or "claude" in name
    return not any(name.startswith(f"{beginning}/") for beginning in _UNREPORTED)


def instead_of(name: str) -> str:
    """Return what the owner can do where a model's endings are not reported."""
    if name.startswith("bedrock/"):
        return "put bedrock/converse/ before the model's name in MODEL"
    return "set MODEL to the provider's OpenAI-compatible address (openai/ and OPENAI_BASE_URL), or use OpenRouter"
