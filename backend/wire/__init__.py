"""The protocols that a message can come in by and a run be told in."""
