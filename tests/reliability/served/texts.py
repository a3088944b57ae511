"""What the routes of `guarded` say."""

CLOSED = "behind the key"
"""It is in every answer that needs the key, and in every exception raised behind it."""
