"""Listening tests: transcribe synthesised speech offline and compare it with its text."""
