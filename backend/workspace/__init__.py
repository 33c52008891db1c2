"""Tools that reach over several features."""
