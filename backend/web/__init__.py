"""The chat page and the API's documentation, served as files."""
