"""Embedding models: the model in use, and the builds that switch to another model."""
