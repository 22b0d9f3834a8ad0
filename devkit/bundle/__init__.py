"""Builds every function of the suite into one readable, self-contained file."""
