"""Leased work: which process may work on a row, for how long, and how processes find rows to work on."""
