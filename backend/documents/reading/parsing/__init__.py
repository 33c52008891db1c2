"""Code of the child process, which turns one file into pages: quick to import, and not trusted by the parent."""
