"""Tools that use both tasks and documents."""
