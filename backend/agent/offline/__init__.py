"""The model that answers without a provider, by a closed list of rules."""
