"""A person's tasks."""
