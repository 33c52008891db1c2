"""Kills, crashes and impatient clients: every message must be answered once and in order."""
