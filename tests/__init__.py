"""The tests; they mirror backend/."""
