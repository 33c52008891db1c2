"""Tests of backend/conversations."""
