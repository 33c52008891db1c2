"""The durable turn: a message's run, its events, and the worker that executes it."""
