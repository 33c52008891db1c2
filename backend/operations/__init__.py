"""The one door to every tool, and its ledger."""
