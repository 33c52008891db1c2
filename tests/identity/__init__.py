"""Tests of backend/identity."""
