"""Documents: uploaded, read, cut into passages, embedded, and found again."""
