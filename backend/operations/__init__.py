"""The one door through which every tool is called, and the ledger of these calls."""
