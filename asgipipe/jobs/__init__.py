"""Runs that are accepted now and executed later: states, store, queues, workers, events."""
