"""Leased work: which process may do it, for how long, and how processes find it."""
