"""Embedding models: the one in use, and building another's vectors."""
