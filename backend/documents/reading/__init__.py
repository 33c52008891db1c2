"""Reading the pages of a file."""
