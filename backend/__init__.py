"""DocuTalk: a chat service over a person's tasks and documents."""

VERSION = "0.1.0"
