"""What developers run beside the two commands."""
