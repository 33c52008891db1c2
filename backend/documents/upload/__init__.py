"""Receive files, and keep them as documents."""
