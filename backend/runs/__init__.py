"""The durable turn: the run that answers a message, the run's events, and the worker that executes the run."""
