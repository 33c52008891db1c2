"""The history of the schema: each step has one concern and is reversible."""
