"""Any model that LiteLLM knows. Importing this module imports LiteLLM."""

import os

# Before the import: without it LiteLLM fetches a price map from the network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm  # after the setting above
from agents.extensions.models.litellm_model import LitellmModel
from agents.models.interface import Model

from backend.agent.assistant import ModelChoice

litellm.suppress_debug_info = True
litellm.telemetry = False
litellm.drop_params = True


def litellm_model(choice: ModelChoice) -> Model:
    """Return the model that a LiteLLM name stands for. Retries are ours: see `recording.py`."""
    provider = choice.name.split("/", 1)[0]
    base_url = choice.base_url if provider == "openai" else None
    key = choice.keys.get(provider) or ("none" if base_url else None)
    return LitellmModel(choice.name, base_url=base_url, api_key=key)
