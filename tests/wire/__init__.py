"""Tests of backend/wire."""
