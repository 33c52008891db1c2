"""Tools that use several features."""
