"""A person's conversations and their messages."""
