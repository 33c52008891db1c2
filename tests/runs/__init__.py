"""Tests of backend/runs."""
