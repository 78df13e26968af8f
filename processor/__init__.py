"""Speechmill's worker: text events in, speech out. One noun a file; imports run downwards."""

__version__ = "0.1.0"
