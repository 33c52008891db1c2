"""The durable turn: a message's run, the run's events, and the worker that executes the run."""
