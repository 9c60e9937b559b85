"""Replicated counters on a majority of nodes."""
