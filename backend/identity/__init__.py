"""Who is calling: guests, tokens, and identities from other servers."""
