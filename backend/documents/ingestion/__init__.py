"""Ingestion: read a document's pages, cut them into passages, and index the passages."""
