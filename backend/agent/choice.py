"""Which model answers, and whether LiteLLM reports how the model's responses end."""

import re
from dataclasses import dataclass, field
from typing import Literal

OFFLINE = "offline"
OFFLINE_NAME = "offline-rules-1"
"""The offline model's name on the page and in database rows."""

OWN_RESPONSES = ("openai", "azure")
"""Providers with a Responses API of their own, which reports why a response ended. For other providers, LiteLLM builds
such responses from chat completions, and an unknown reason then looks like a complete response."""
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
"""Prefixes of the LiteLLM names of models that are refused. For these models, LiteLLM loses how a response ended, or is
not proven to report it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Which model answers, and how to reach that model."""

    name: str = OFFLINE
    """`offline`, or a model's LiteLLM name."""
    keys: dict[str, str] = field(default_factory=dict)
    """API keys, by LiteLLM's prefix for the provider. For other providers, LiteLLM reads the keys from the environment.
    """
    base_url: str | None = None
    """The URL of an OpenAI-compatible server, used for model names that begin with `openai/`."""
    streaming: bool = True
    timeout_seconds: float = 120.0
    guests_get: Literal["on", "offline", "off"] = "on"

    @property
    def shown(self) -> str:
        """The model's name as users see it."""
        return OFFLINE_NAME if self.name == OFFLINE else self.name


def reports_endings(name: str) -> bool:
    """Return whether LiteLLM reports how this model's responses end. `name` must begin with the provider."""
    provider, _, model = name.partition("/")
    if provider in ("vertex_ai", "vertex_ai_beta") and not model.startswith(("gemini", "claude")):
        return False
    if model.startswith("responses/") and provider not in OWN_RESPONSES:
        return False
    # If a name contains one of these words anywhere, LiteLLM ignores the provider in the name and sends the request to
    # another one.
    if "replicate" in model or "ft:davinci-002" in model or "ft:babbage-002" in model:
        return False
    if provider == "azure_ai" and "agents/" in model:
        return False
    return not any(name.startswith(f"{beginning}/") for beginning in _UNREPORTED)


def instead_of(name: str) -> str:
    """Return what the owner can do if LiteLLM does not report how this model's responses end."""
    provider, _, model = name.partition("/")
    if model.startswith("responses/"):
        return "leave responses/ out of MODEL"
    if provider == "bedrock" and "mantle/" in model:
        return "put bedrock_mantle/ before the model's id in MODEL"
    if provider == "bedrock" and not re.search(r"agent|async_invoke|arn:", model):
        return "put bedrock/converse/ before the model's id in MODEL, with nothing between them"
    if provider == "bedrock":
        return "choose another model in MODEL"
    return (
        "set MODEL to openai/ and the model's name, and OPENAI_BASE_URL to the provider's OpenAI-compatible address, "
        "or use OpenRouter"
    )
