"""Ingestion, with embeddings that tests make up."""
