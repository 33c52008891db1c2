"""What search finds, how fast, and at what cost, compared with judged questions, brute force and plain SQL."""
