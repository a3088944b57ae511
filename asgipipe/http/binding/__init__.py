"""Custom endpoints: plain typed callables, validated, documented and answered alike on every framework."""

from asgipipe.http.binding.bound import Bound, Limits, bind
from asgipipe.http.binding.builder import HandlerKind, build_handler, classify
from asgipipe.http.binding.handler import wants_framework
from asgipipe.http.binding.result import returns_framework
from asgipipe.http.binding.stream import RunInThread

__all__ = [
    "Bound",
    "HandlerKind",
    "Limits",
    "RunInThread",
    "bind",
    "build_handler",
    "classify",
    "returns_framework",
    "wants_framework",
]
