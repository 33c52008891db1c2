"""The schema's history, one concern each, every step reversible."""
