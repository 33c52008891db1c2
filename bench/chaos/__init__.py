"""Kills, crashes and impatient clients: every message gets its answer, once, in order."""
