"""The service with a provider's model, which is scripted and reached over real HTTP."""

import asyncio
import importlib
import os
from collections.abc import Callable, Iterator

import httpx
import pytest

from backend.settings import Settings
from bench.scripted_model import ScriptedModel, says, scripted_model
from tests.agent.talk import KEY
from tests.conftest import serving, signed_in_guest


@pytest.fixture(scope="session")
def model() -> Iterator[ScriptedModel]:
    """The provider's server; a test sets its answers with `model.follow`."""
    # Imported once before any service needs it: on a busy machine the import takes longer than a service may take to
    # start.
    importlib.import_module("backend.agent.providers")
    with scripted_model([says("Hello.")]) as server, pytest.MonkeyPatch.context() as hurry:
        # Many tests make the provider fail, and none of them is about the wait before a retry.
        hurry.setattr("backend.agent.recording.FIRST_WAIT", 0.02)
        yield server


@pytest.fixture(scope="session")
def with_model(model: ScriptedModel, make_settings: Callable[..., Settings]) -> Callable[..., Settings]:
    """Makes settings for a service that calls the scripted model."""

    def make(**changes: object) -> Settings:
        given = {"model": "openai/any", "openai_base_url": model.url, "openai_api_key": KEY, "max_steps": 6}
        return make_settings(**(given | changes))

    return make


@pytest.fixture(scope="session", params=["streaming", "whole"])
def asking(request: pytest.FixtureRequest, with_model: Callable[..., Settings]) -> Iterator[str]:
    """The service, once with MODEL_STREAMING and once without; returns its address."""
    with serving(with_model(model_streaming=request.param == "streaming")) as url:
        yield url


@pytest.fixture(scope="session")
def streaming(with_model: Callable[..., Settings]) -> Iterator[str]:
    """The service with MODEL_STREAMING; returns its address."""
    with serving(with_model()) as url:
        yield url


@pytest.fixture
def person(asking: str) -> Iterator[httpx.Client]:
    """A fresh guest of `asking`."""
    with signed_in_guest(asking) as client:
        yield client


@pytest.fixture
def listener(streaming: str) -> Iterator[httpx.Client]:
    """A fresh guest of `streaming`."""
    with signed_in_guest(streaming) as client:
        yield client


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """An event loop for calling models: LiteLLM keys its connections by the loop's id, which a later loop could get."""
    from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients

    with asyncio.Runner() as runner:
        yield runner
        runner.run(close_litellm_async_clients())  # type: ignore[no-untyped-call]


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes providers' keys, addresses and regions from the environment, so that only the tests' own apply."""
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_API_BASE", "_BASE_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_REGION_NAME", "us-east-1")
    monkeypatch.setenv("WATSONX_TOKEN", "token")
    monkeypatch.setenv("WATSONX_PROJECT_ID", "project")
