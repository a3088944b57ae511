"""Starlette: the subject that is the reference, too."""

from asgipipe.testing.reference import StarletteSubject

__all__ = ["StarletteSubject"]
