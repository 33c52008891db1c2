"""Read a file's pages."""
