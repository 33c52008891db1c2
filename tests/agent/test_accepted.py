"""Which providers are called: each of LiteLLM's is read like OpenAI, tested in its own format, or refused."""

import asyncio
from random import Random

import pytest

from backend.agent.choice import _UNREPORTED, ModelChoice
from backend.agent.errors import ProviderFailed
from bench.scripted_model import ScriptedModel
from tests.agent.test_endings import CALL, ENDINGS, answer_of, asked, made, payloads, streams
from tests.agent.wires import openai_stream

pytestmark = pytest.mark.usefixtures("no_keys", "model")

LIKE_OPENAI = """
    abliteration ai21 ai21_chat aihubmix aiml apertis assemblyai azure azure_ai baseten bedrock_mantle cerebras
    charity_engine chutes clarifai cloudflare codestral cognition cometapi compactifai cortecs crusoe custom_openai
    darkbloom dashscope databricks datarobot deepinfra deepseek docker_model_runner edenai empiriolabs empower
    featherless_ai fireworks_ai friendliai galadriel github gmi groq helicone heroku hosted_vllm huggingface hyperbolic
    inception lambda_ai lemonade libertai litellm_proxy llamafile llamagate lm_studio meta meta_llama minimax mistral
    modelscope moonshot morph nadir nano-gpt nebius neosantara novita nscale nvidia_nim openai openrouter ovhcloud
    parasail perplexity pinstripes poe prism publicai qwen_ai_platform qwencloud ragflow reka sail sambanova sarvam
    scaleway scx-ai synthetic tencent tensormesh together_ai v0 veniceai vercel_ai_gateway volcengine wandb xai
    xiaomi_mimo xinference zai
""".split()  # noqa: SIM905  # a list of literals would be a hundred lines
"""Providers whose responses have OpenAI's format."""
MODELS = {"clarifai": "openai.chat.gpt", "ragflow": "chat/one/any"}
ELSEWHERE = {"vertex_ai", "vertex_ai_beta", "anyscale"}
"""Gemini and Claude at Vertex AI, read as at their makers' but with a library that is not installed here; and a name
that LiteLLM lists but does not understand."""


def _name(provider: str) -> str:
    return f"{provider}/{MODELS.get(provider, 'any')}"


@pytest.mark.spec("AGENT-57")
def test_every_provider_that_litellm_talks_to_is_tried_or_refused() -> None:
    from litellm.constants import openai_compatible_providers
    from litellm.llms.openai_like.json_loader import JSONProviderRegistry
    from litellm.types.utils import LlmProviders
    from litellm.utils import ProviderConfigManager

    talking = {*openai_compatible_providers, *JSONProviderRegistry.list_providers()}
    talking |= {
        provider.value
        for provider in LlmProviders
        if ProviderConfigManager.get_provider_chat_config("any", provider) is not None
    }
    tried = {*LIKE_OPENAI, *ELSEWHERE, *(name.split("/")[0] for name, *_rest in ENDINGS), "cohere_chat"}
    refused = {name.split("/")[0] for name in _UNREPORTED}

    assert talking - tried == refused - {"azure_ai", "bedrock"}


@pytest.mark.spec("AGENT-57")
def test_a_call_that_was_cut_off_is_not_made_at_providers_like_openai(
    model: ScriptedModel, runner: asyncio.Runner
) -> None:
    cut, some = openai_stream("length", CALL), Random(1).sample(LIKE_OPENAI, 20)

    answers = {name: answer_of(_name(name), cut, model, runner, streaming=True) for name in some}

    assert {name: said for name, said in answers.items() if said != "model_cut, again"} == {}


@pytest.mark.long
@pytest.mark.spec("AGENT-57", "AGENT-58")
@pytest.mark.parametrize("provider", LIKE_OPENAI)
def test_only_a_whole_response_is_taken_for_one_at_every_provider_like_openai(
    provider: str, model: ScriptedModel, runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # If one of them is missing, any error of Azure's is taken to mean that.
    monkeypatch.setenv("AZURE_API_BASE", model.url)
    monkeypatch.setenv("AZURE_API_VERSION", "2024-10-21")
    monkeypatch.setenv("AZURE_API_KEY", "key")
    name = _name(provider)
    rows = [*payloads(name, streaming=True), *payloads(name, streaming=False), *streams(name)]

    wrong = [
        (wanted, answer, reply.body[-400:])
        for _, streaming, wanted, reply in rows
        if (answer := answer_of(name, reply, model, runner, streaming=streaming)) != wanted
    ]

    assert wrong == []


@pytest.mark.spec("AGENT-59")
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("gigachat/any", "OPENAI_BASE_URL"),
        ("github_copilot/claude-any", "OPENAI_BASE_URL"),
        ("sagemaker/any", "OPENAI_BASE_URL"),
        ("snowflake/any", "OPENAI_BASE_URL"),
        ("gpt-3.5-turbo-instruct", "OPENAI_BASE_URL"),
        ("vertex_ai/meta/llama-any", "OPENAI_BASE_URL"),
        ("azure_ai/agents/any", "OPENAI_BASE_URL"),
        ("bedrock/meta.any", "bedrock/converse/"),
        ("bedrock/invoke/amazon.titan-any", "bedrock/converse/"),
        ("bedrock/us-east-1/converse_like/any", "bedrock/converse/"),
        ("bedrock/us-east-1/mantle/any", "bedrock_mantle/"),
        ("bedrock/agent/any/any", "choose another model"),
        ("deepseek/responses/any", "leave responses/ out"),
        ("bedrock/responses/anthropic.claude-3-haiku-20240307-v1:0", "leave responses/ out"),
        ("azure_ai/codex-mini", "OPENAI_BASE_URL"),
        ("azure_ai/team/agents/asst_1", "OPENAI_BASE_URL"),
        ("huggingface/replicate/meta-llama/any", "OPENAI_BASE_URL"),
        ("anthropic/replicate-any", "OPENAI_BASE_URL"),
        ("openai/ft:babbage-002:any", "OPENAI_BASE_URL"),
        ("vertex_ai/openai/gemini-any", "OPENAI_BASE_URL"),
    ],
)
def test_a_provider_that_does_not_report_how_a_response_ended_is_not_asked(
    name: str, instead: str, streaming: bool, model: ScriptedModel, runner: asyncio.Runner
) -> None:
    from backend.agent.providers import litellm_model

    model.follow([openai_stream("stop", CALL)])
    refusing = litellm_model(ModelChoice(name=name, base_url=model.url))

    with pytest.raises(ProviderFailed) as raised:
        runner.run(asked(refusing, streaming=streaming))

    assert (raised.value.failure.code, raised.value.again) == ("model_misconfigured", False)
    assert name in str(raised.value.failure)
    assert instead in str(raised.value.failure)
    assert model.requests == []


@pytest.mark.spec("AGENT-72")
@pytest.mark.parametrize(
    "name", ["hosted_vllm", "litellm_proxy", "lm_studio/any", "no-such-model", "no-such/model", " openai/any", "/", ""]
)
def test_a_name_that_litellm_does_not_know_or_cannot_reach_is_not_asked(name: str) -> None:
    refused = made(name).refused

    assert refused is not None
    assert refused.code == "model_misconfigured"


@pytest.mark.spec("AGENT-59")
def test_the_address_of_a_name_without_a_provider_decides_whose_it_is() -> None:
    from backend.agent.providers import litellm_model

    elsewhere = ModelChoice(name="gpt-4o", base_url="https://gigachat.devices.sberbank.ru/api/v1")

    assert litellm_model(elsewhere).refused is not None
    assert made("gpt-4o").refused is None


@pytest.mark.spec("AGENT-59")
@pytest.mark.parametrize(
    "name",
    [
        "bedrock/converse/meta.any",
        "bedrock/us.anthropic.claude-any",
        "anthropic.claude-3-haiku-20240307-v1:0",
        "vertex_ai/gemini-2.5-flash",
        "vertex_ai/claude-haiku-4-5",
        "gemini-2.5-flash",
        "openai/responses/any",
        "azure/responses/any",
        "bedrock_mantle/any",
        "openrouter/meta-llama/any",
    ],
)
def test_a_provider_that_reports_how_a_response_ended_is_asked(name: str) -> None:
    assert made(name).refused is None
