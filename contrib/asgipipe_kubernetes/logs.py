"""The logs of pods: of one as they are, of several with the pod before each line."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import httpx2
from lightkube import ApiError, Client
from lightkube.resources.core_v1 import Pod

from asgipipe.errors import DeploymentError
from asgipipe_kubernetes.objects import name_of
from asgipipe_kubernetes.pods import CONTAINER

_LONGEST_LINE = 64 * 1024
_WAITING = 1000
"""Lines that have been read and not been taken yet, of all pods together."""
_PAUSE = 1.0
"""Seconds between two looks at which pods there are."""
_MOST_PODS = 50

Connect = Callable[[], "AbstractClient"]
