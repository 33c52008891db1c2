"""The only engine, session and commit; also roles, schema, the embedded server and notifications."""
