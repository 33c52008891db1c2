"""The code that executes every tool call, and the ledger of these calls."""
