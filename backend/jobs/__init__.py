"""Leased work: who may do it, for how long, and how it is found."""
