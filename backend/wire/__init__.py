"""The protocols in which clients send messages and follow runs."""
