"""A memory of conversations: what is stored, how it is found, and how it is told."""
