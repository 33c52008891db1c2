"""The offline model, which answers without a provider, by a fixed set of rules."""
