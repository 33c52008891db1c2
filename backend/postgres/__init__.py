"""The only code that connects to the database and commits; also roles, schema, embedded server and notifications."""
