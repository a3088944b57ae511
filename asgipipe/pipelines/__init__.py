"""Pipelines and steps: what a user writes, and what a run of it is."""
