"""What make runs, and what developers run by hand."""
