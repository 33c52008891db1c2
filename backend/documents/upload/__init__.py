"""Receiving files, and keeping them as documents."""
