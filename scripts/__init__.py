"""Scripts that make runs, and scripts that developers run by hand."""
