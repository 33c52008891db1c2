"""Who is calling: guests, tokens, outside identities."""
