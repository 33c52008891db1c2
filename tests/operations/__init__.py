"""Tests of backend/operations."""
