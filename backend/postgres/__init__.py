"""The only engine, session and commit; the roles, the schema, the embedded server and what it notifies of."""
