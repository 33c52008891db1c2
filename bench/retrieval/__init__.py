"""What search finds, how fast, and at what cost: against judged questions, brute force, and plain SQL."""
