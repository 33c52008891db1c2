#!/bin/sh
# Create the secret files that docker-compose.yml passes to the containers. Existing files stay unchanged.
set -eu

mkdir -p secrets
# The containers' users must be able to read the files. The directory's mode keeps the host's other users out.
chmod 700 secrets
umask 022

random() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

keep() {
    [ -e "secrets/$1" ] || printf '%s' "$2" >"secrets/$1"
}

keep POSTGRES_PASSWORD "$(random)"
keep DATABASE_URL "postgresql://docutalk:$(cat secrets/POSTGRES_PASSWORD)@db:5432/docutalk"
keep SECRET_KEY "$(random)"
# An empty file means that the setting is not set. Write a key into your provider's file.
for name in OPENAI_API_KEY GEMINI_API_KEY ANTHROPIC_API_KEY BETTER_AUTH_SECRET; do
    keep "$name" ""
done
echo "The secrets are in secrets/. A model's key goes into the file with its name, such as secrets/OPENAI_API_KEY."
