"""Limits on how much of a process one user or one address may use at once."""
