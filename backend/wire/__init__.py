"""The protocols in which messages arrive and runs are reported."""
