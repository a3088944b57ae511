"""Clients that submit and cancel jobs, whatever happens to the servers, and remember what they were told."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

import httpx

CALL = 15.0
"""Seconds in which every call is answered, or broken off, though the server is stopped or frozen."""
_BUSY = {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS}


class Load:
    """`accepted` are the ids of jobs with their run names, `cancelled` those that were asked to be cancelled."""

    def __init__(self, urls: Sequence[str], seed: int, clients: int = 4) -> None:
        self.accepted: dict[str, str] = {}
        self.cancelled: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.faults: list[str] = []
        self._urls = urls
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._submit, args=(number, Random(f"{seed}-{number}")), daemon=True)
            for number in range(clients)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self, patience: float) -> None:
        """Submit no more, and wait until what is being submitted is accepted."""
        self._over.set()
        deadline = time.monotonic() + patience
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self.faults.append("a submit was not accepted though everything runs")

    def _submit(self, client: int, random: Random) -> None:
        with httpx.Client(timeout=CALL, verify=False) as session:  # noqa: S501  # loopback
            for number in itertools.count():
                name = f"{client}-{number}"
                parameters = {"pause": random.choice((0.0, 0.02, 0.3)), "failures": random.choice((0, 0, 0, 1))}
                job_id = self._accept(session, name, parameters, random)
                self.accepted[job_id] = name
                if random.random() < 0.1:
                    self._cancel(session, job_id, random)
                if self._over.wait(random.uniform(0.0, 0.1)):
                    return

    def _accept(self, session: httpx.Client, name: str, parameters: dict[str, Any], random: Random) -> str:
        body = {"run_name": name, "parameters": parameters}
        while True:
            answer = self._ask(session, f"{random.choice(self._urls)}/invoke?mode=async", json=body, key=name)
            if answer is not None and answer.status_code == httpx.codes.ACCEPTED:
                job_id: str = answer.json()["job_id"]
                return job_id
            self._judge("a submit", answer)

    def _cancel(self, session: httpx.Client, job_id: str, random: Random) -> None:
        self.cancelled.add(job_id)
        answer = self._ask(session, f"{random.choice(self._urls)}/jobs/{job_id}/cancel")
        if answer is None or answer.status_code not in {httpx.codes.ACCEPTED, httpx.codes.CONFLICT}:
            self._judge("a cancel", answer)

    def _ask(self, session: httpx.Client, url: str, *, json: object = None, key: str | None = None) -> Any:
        headers = {} if key is None else {"idempotency-key": key}
        with suppress(httpx.TransportError):
            answer = session.post(url, json=json, headers=headers)
            self.statuses[answer.status_code] += 1
            return answer
        return None

    def _judge(self, what: str, answer: httpx.Response | None) -> None:
        if answer is not None and answer.status_code not in _BUSY:
            self.faults.append(f"{what} was answered with {answer.status_code}: {answer.text[:300]}")
        time.sleep(0.05)
