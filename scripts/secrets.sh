#!/bin/sh
# Make the files that docker-compose.yml hands to the containers. Files that exist stay as they are.
set -eu

mkdir -p secrets
# The containers' users read the files; the directory keeps the host's other users out.
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
# Empty means not set: write a key into the file of the provider you use.
for name in OPENAI_API_KEY GEMINI_API_KEY ANTHROPIC_API_KEY BETTER_AUTH_SECRET; do
    keep "$name" ""
done
echo "The secrets are in secrets/. A model's key goes into the file with its name, such as secrets/OPENAI_API_KEY."
