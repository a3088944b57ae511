"""Steps: functions that a run can see, retry, time, stream and cancel."""

import asyncio
import contextlib
from asyncio import _get_running_loop
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
from copy import copy
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

from asgipipe.errors import DefinitionError, StepExitError, StepTimeoutError
from asgipipe.pipelines.callables import Kind, doc_of, kind_in_run, name_of
from asgipipe.pipelines.context import Run, current
from asgipipe.pipelines.future import StepFuture, StepFutures, start
from asgipipe.pipelines.memory import Place, scope
from asgipipe.pipelines.stream import is_text, item_type, joined

if TYPE_CHECKING:
    from asgipipe.pipelines.observer import RunObserver
    from asgipipe.pipelines.outputs import OutputShape
    from asgipipe.pipelines.results import ResultCodec

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")


class Step(Generic[P, R_co]):
    """A function decorated with `@step`.

    Outside a run it is the plain function. Inside one it returns the value itself; a generator's items become
    `output_delta` events, and its value is the joined text for `Iterator[str]`, else the list. An async step called
    from a sync pipeline's thread is awaited on the run's event loop.
    """

    __asgipipe_step__ = True

    def __init__(
        self,
        function: Callable[P, R_co],
        *,
        name: str | None = None,
        retries: int = 0,
        retry_delay: float = 0.0,
        timeout: float | None = None,
    ) -> None:
        if not callable(function):
            raise DefinitionError(f"@step was given {function!r}, which is not callable")
        self.function = function
        self.kind = kind_in_run(function)
        self.description = doc_of(function)
        self._hints: Mapping[str, object] | None = None
        self._text: bool | None = None
        self._shape: OutputShape | None = None
        self._codec: ResultCodec | None = None
        self.__doc__ = function.__doc__
        self.__module__ = getattr(function, "__module__", type(function).__module__)
        self.__wrapped__ = function
        self._configure(name or name_of(function), retries, retry_delay, timeout)
        self.__qualname__ = getattr(function, "__qualname__", self.name)
        # A class of the enclosing function can be found now, one that is defined further down only later.
        with contextlib.suppress(DefinitionError):
            self._annotations()

    def _configure(self, name: str, retries: int, retry_delay: float, timeout: float | None) -> None:
        self.name = self.__name__ = name
        self.retries = retries
        self.retry_delay = retry_delay
        self.timeout = timeout
        self._check()
        # Looked at on every call; reading a member of an Enum costs more than calling a small function (Python 3.11).
        self._plain = retries == 0 and timeout is None
        self._plain_sync = self._plain and self.kind is Kind.SYNC
        self._plain_async = self._plain and self.kind is Kind.ASYNC
        self._is_async = self.kind.is_async

    def _check(self) -> None:
        if self.retries < 0 or self.retry_delay < 0:
            raise DefinitionError(f"step {self.name!r}: retries and retry_delay cannot be negative")
        if self.timeout is not None and self.timeout <= 0:
            raise DefinitionError(f"step {self.name!r}: timeout is a positive number of seconds")

    @property
    def shape(self) -> "OutputShape":
        """Names and types of the step's outputs, decided from its definition.

        Raises DefinitionError for a bad name, or a return annotation that cannot be evaluated.
        """
        if self._shape is None:
            from asgipipe.pipelines.outputs import output_names

            self._shape = output_names(self.function, self._annotations())
        return self._shape

    def _annotations(self) -> Mapping[str, object]:
        if self._hints is None:
            from asgipipe.pipelines.syntax import annotations

            self._hints = annotations(self.function, ["return"])
        return self._hints

    @cached_property
    def output_names(self) -> tuple[str, ...]:  # looked at on every recorded call
        return self.shape.names

    @property
    def text(self) -> bool:
        """True when the step is a generator of str."""
        if self._text is None:
            self._text = self.kind.streams and is_text(self._annotations())
        return self._text

    @property
    def codec(self) -> "ResultCodec":
        """How results are written for a run that is repeated, and read."""
        if self._codec is None:
            from asgipipe.pipelines.results import ResultCodec

            annotation: object = object
            with contextlib.suppress(DefinitionError):  # it names what is not there: then JSON decides what is kept
                annotation = self._annotations().get("return", object)
            if self.kind.streams:
                annotation = str if self.text else list[item_type(annotation) or object]  # type: ignore[misc]  # made at run time
            self._codec = ResultCodec(annotation)
        return self._codec

    def with_options(
        self,
        *,
        name: str | None = None,
        retries: int | None = None,
        retry_delay: float | None = None,
        timeout: float | None = None,
    ) -> "Step[P, R_co]":
        """Return a copy with the given options changed."""
        changed = copy(self)
        changed._configure(
            self.name if name is None else name,
            self.retries if retries is None else retries,
            self.retry_delay if retry_delay is None else retry_delay,
            self.timeout if timeout is None else timeout,
        )
        return changed

    def __get__(self, instance: object, owner: type | None = None) -> "Step[..., R_co]":
        """Bind like a function, so that methods can be steps."""
        if instance is None:
            return self
        bound = copy(self)
        bound.function = bound.__wrapped__ = self.function.__get__(instance, owner)
        return bound

    def __repr__(self) -> str:
        return f"<step {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        context = current.get()
        if context is None:
            return self.function(*args, **kwargs)
        run = context[0]
        if self._plain_sync and run.listener is None and run.memory is None:
            if run.cancel_reason is not None:
                run.checkpoint()
            if run.observer is not None:
                return cast(R_co, self._observed(run, run.observer, self.function, *args, **kwargs))
            token = current.set((run, self.name))
            try:
                return self.function(*args, **kwargs)
            finally:
                current.reset(token)
        if run.memory is not None:
            return cast(R_co, self.call_at(self._place(run), run, args, kwargs))
        if self._is_async:
            # No cast() here and in _execute: it is a call, and `Awaitable[object]` makes an object, on every step.
            if self._plain_async and not run.inline and _get_running_loop() is not None:
                if run.observer is None:
                    return self._execute(run, args, kwargs)  # type: ignore[return-value]  # R_co is its coroutine
                return self._observe(run, args, kwargs)  # type: ignore[return-value]  # see above
            return cast(R_co, self._call_async(run, args, kwargs))
        return cast(R_co, self._call_sync(run, args, kwargs))

    @overload
    def submit(self: "Step[P, Coroutine[object, object, T]]", *args: P.args, **kwargs: P.kwargs) -> "StepFuture[T]": ...
    @overload
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> "StepFuture[R_co]": ...
    def submit(self, *args: P.args, **kwargs: P.kwargs) -> "StepFuture[Any]":
        """Start the step beside the caller and return its future: `.result()` in sync code, `await` in async code.

        Sync steps run in the deployment's threads, async ones on its event loop. Outside a run the step is run at once.
        """
        return start(self._submitted(), args, kwargs)

    @overload
    def map(
        self: "Step[P, Coroutine[object, object, T]]", items: Iterable[object], /, **common: object
    ) -> "StepFutures[T]": ...
    @overload
    def map(self, items: Iterable[object], /, **common: object) -> "StepFutures[R_co]": ...
    def map(self, items: Iterable[object], /, **common: object) -> "StepFutures[Any]":
        """Submit the step once per item, given as its first argument; `common` goes to each call.

        `.result()` or `await` give the list of results, in the order of `items`.
        """
        return StepFutures(start(self._submitted(), (item,), common) for item in items)

    # Inside a run that remembers

    def _submitted(self) -> "Callable[..., object]":
        """Return what a thread is to call: it gets its place in the run now, in the order of the submits."""
        context = current.get()
        if context is None or context[0].memory is None:
            return self
        return SubmittedCall(self, context[0], self._place(context[0]))

    def _place(self, run: Run) -> Place:
        """Return the place of the call that is being made in a run with a memory."""
        here = scope.get()
        if here is None or here.memory is not run.memory:
            here = run.scope
        return here.call(self.name)

    def call_at(self, place: Place, run: Run, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """Do what calling the step does in a run, with a result that may be remembered."""
        if self._is_async:
            return self._call_async(run, args, kwargs, place)
        run.checkpoint()
        recalled = place.recall(self.codec, args, kwargs)
        if recalled is not None:
            if run.observer is not None:
                run.observer.step_restored(self, recalled[0])
            return recalled[0]
        token = scope.set(place)
        try:
            value = self._call_sync(run, args, kwargs)
        except BaseException:
            place.forget()
            raise
        finally:
            scope.reset(token)
        kept = place.keep(self.codec, args, kwargs, value)
        if kept is not None and _get_running_loop() is not run.loop:  # where nobody can wait, nobody does
            run.wait_until_kept(kept)
        return value

    def execute_at(
        self, place: Place | None, run: Run, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Coroutine[object, object, object]:
        """Return the coroutine of an async step that was called in a run; `place` is None in one without a memory."""
        return self._execution(run, args, kwargs) if place is None else self._remember(place, run, args, kwargs)

    async def _remember(self, place: Place, run: Run, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        run.checkpoint()
        recalled = place.recall(self.codec, args, kwargs)
        if recalled is not None:
            if run.observer is not None:
                run.observer.step_restored(self, recalled[0])
            return recalled[0]
        token = scope.set(place)
        try:
            value = await self._execution(run, args, kwargs)
        except BaseException:
            place.forget()
            raise
        finally:
            scope.reset(token)
        kept = place.keep(self.codec, args, kwargs, value)
        if kept is not None:
            await asyncio.wrap_future(kept)
        return value

    # Inside a run

    def _call_async(
        self, run: Run, args: tuple[object, ...], kwargs: dict[str, object], place: Place | None = None
    ) -> object:
        in_loop = _get_running_loop() is not None
        if in_loop and run.inline:
            raise DefinitionError(f"step {self.name!r} is async: a sync pipeline with blocking=False cannot await it")
        stream = self.kind.streams
        call: Callable[[], Awaitable[object]] = (
            partial(StreamCall, self, run, args, kwargs, place)
            if stream
            else partial(self.execute_at, place, run, args, kwargs)
        )
        # Without a running loop this is a thread of the pipeline's, where nobody can await.
        return call() if in_loop else run.wait_for(call)

    def _call_sync(self, run: Run, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        run.checkpoint()
        if run.observer is not None:
            return self._observed(run, run.observer, self._attempt_sync, run, args, kwargs)
        token = current.set((run, self.name))
        try:
            return self._attempt_sync(run, args, kwargs)
        finally:
            current.reset(token)

    def _observed(
        self, run: Run, observer: "RunObserver", call: Callable[..., object], *args: object, **kwargs: object
    ) -> object:
        """Make a call that is the step, and tell about it."""
        record = observer.step_began(self)
        token = current.set((run, self.name, record))
        try:
            value = call(*args, **kwargs)
        except BaseException as error:
            observer.step_failed(record, error)
            raise
        finally:
            current.reset(token)
        pause = observer.step_ended(record, self, value)
        if pause is not None and _get_running_loop() is not run.loop:  # where nobody can wait, nobody does
            run.wait_until_kept(pause)
        return value

    def _attempt_sync(self, run: Run, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if not self._plain and _get_running_loop() is run.loop:  # a loop of the user's own may block
            self._refuse_on_loop()
        for attempt in range(1, self.retries + 2):
            self.announce(run, "step_started", {"attempt": attempt})
            try:
                value = self._in_time(run, args, kwargs)
            except Exception as error:  # boundary: whatever the step raised is told, then retried or passed on
                self.announce_failure(run, attempt, error)
                if attempt > self.retries:
                    raise
                run.sleep(self.retry_delay)
            else:
                run.checkpoint()
                self.announce(run, "step_completed", {"attempt": attempt})
                return value
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _refuse_on_loop(self) -> NoReturn:
        raise DefinitionError(
            f"step {self.name!r} has retries or a timeout and is sync: called on the event loop it would block every "
            f"other run; make it async, or call it as `await {self.name}.submit(...)`"
        )

    def _in_time(self, run: Run, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if self.timeout is None:
            return self._value(run, args, kwargs)
        call = run.executor.call_aside(lambda: self._value(run, args, kwargs), self.timeout)
        if call is None:
            raise StepTimeoutError(self.name, self.timeout)
        if call.error is not None:
            raise call.error
        return call.value

    def _value(self, run: Run, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        result: object = self.function(*args, **kwargs)  # type: ignore[arg-type]  # checked by __call__'s signature
        if self.kind is Kind.GENERATOR:
            return drain(cast(Generator[object, None, None], result), run, self.text, self.name)
        return result

    def _execution(
        self, run: Run, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Coroutine[object, object, object]:
        return self._execute(run, args, kwargs) if run.observer is None else self._observe(run, args, kwargs)

    async def _execute(self, run: Run, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if run.cancel_reason is not None:
            run.checkpoint()
        token = current.set((run, self.name))
        try:
            if self._plain_async and run.listener is None:
                return await self.function(*args, **kwargs)  # type: ignore[arg-type,misc]  # checked by __call__
            return await self._attempt_async(run, args, kwargs)
        except (SystemExit, KeyboardInterrupt) as error:
            # In a task of its own (gather, TaskGroup) either of them would stop the event loop and with it the server.
            raise StepExitError(self.name, error) from error
        finally:
            current.reset(token)

    async def _observe(self, run: Run, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """Execute the step and tell about it."""
        observer = run.observer
        if observer is None:  # the run has ended
            return await self._execute(run, args, kwargs)
        if run.cancel_reason is not None:
            run.checkpoint()
        record = observer.step_began(self)
        token = current.set((run, self.name, record))
        try:
            if self._plain_async and run.listener is None:
                value: object = await self.function(*args, **kwargs)  # type: ignore[arg-type,misc]  # checked by __call__
            else:
                value = await self._attempt_async(run, args, kwargs)
        except BaseException as error:
            observer.step_failed(record, error)
            if isinstance(error, SystemExit | KeyboardInterrupt):  # as above
                raise StepExitError(self.name, error) from error
            raise
        finally:
            current.reset(token)
        pause = observer.step_ended(record, self, value)
        if pause is not None:
            await asyncio.wrap_future(pause)
        return value

    async def _attempt_async(self, run: Run, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        for attempt in range(1, self.retries + 2):
            self.announce(run, "step_started", {"attempt": attempt})
            if run.room is not None:
                await run.room()
            try:
                value = await self._in_time_async(run, args, kwargs)
            except Exception as error:  # boundary: whatever the step raised is told, then retried or passed on
                self.announce_failure(run, attempt, error)
                if attempt > self.retries:
                    raise
                await asyncio.sleep(self.retry_delay)
            else:
                run.checkpoint()
                self.announce(run, "step_completed", {"attempt": attempt})
                return value
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _in_time_async(self, run: Run, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if self.timeout is None:
            return await self._value_async(run, args, kwargs)
        scope = asyncio.timeout(self.timeout)
        try:
            async with scope:
                return await self._value_async(run, args, kwargs)
        except TimeoutError as error:
            if scope.expired():
                raise StepTimeoutError(self.name, self.timeout) from error
            raise  # the step's own TimeoutError

    async def _value_async(self, run: Run, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        result: object = self.function(*args, **kwargs)  # type: ignore[arg-type]  # checked by __call__'s signature
        if self.kind is Kind.ASYNC_GENERATOR:
            return await drain_async(cast("AsyncGenerator[object, None]", result), run, self.text, self.name)
        return await cast(Awaitable[object], result)

    def announce(self, run: Run, event_type: str, data: dict[str, object]) -> None:
        if run.listener is not None:
            run.listener(event_type, self.name, data)

    def announce_failure(self, run: Run, attempt: int, error: BaseException) -> None:
        here = current.get()
        if here is not None and len(here) == 3 and attempt <= self.retries:
            here[2].attempt = attempt + 1
        if run.listener is not None:
            from asgipipe.pipelines.execution import message_of

            last = attempt > self.retries
            data = {"attempt": attempt, "error": message_of(error)}
            run.listener("step_failed" if last else "retrying", self.name, data)


class SubmittedCall:
    """A call of a step whose place in its run is known before it is made."""

    def __init__(self, step: Step[P, R], run: Run, place: Place) -> None:
        self.name = step.name
        self.kind = step.kind
        self.function = step.function
        self._step = step
        self._run = run
        self._place = place

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self._step.call_at(self._place, self._run, args, kwargs)


class StreamCall(Awaitable[object]):
    """An async generator step that was called in a run: awaiting it gives the value, iterating over it the items."""

    __slots__ = ("_args", "_kwargs", "_place", "_run", "_step")

    def __init__(
        self, step: Step[P, R], run: Run, args: tuple[object, ...], kwargs: dict[str, object], place: Place | None
    ) -> None:
        self._step: Step[..., object] = cast("Step[..., object]", step)
        self._run = run
        self._args = args
        self._kwargs = kwargs
        self._place = place

    def __await__(self) -> Generator[object, object, object]:
        return self._step.execute_at(self._place, self._run, self._args, self._kwargs).__await__()

    async def __aiter__(self) -> AsyncIterator[object]:
        step, run = self._step, self._run
        if self._place is not None:
            self._place.forget()  # whoever takes the items one by one may stop before the last
        items = cast("AsyncGenerator[object, None]", step.function(*self._args, **self._kwargs))
        record = None if run.observer is None else run.observer.step_began(step)
        collected: list[object] = []
        step.announce(run, "step_started", {"attempt": 1})
        try:
            async for item in items:
                run.checkpoint()
                step.announce(run, "output_delta", {"delta": item})
                if record is not None:
                    collected.append(item)
                if run.room is not None:
                    await run.room()
                yield item
        except Exception as error:  # boundary: whatever the step raised is told, then passed on
            step.announce_failure(run, step.retries + 1, error)
            if run.observer is not None and record is not None:
                run.observer.step_failed(record, error)
            raise
        finally:
            await items.aclose()
        step.announce(run, "step_completed", {"attempt": 1})
        if run.observer is not None and record is not None:
            pause = run.observer.step_ended(record, step, joined(collected, step.text))
            if pause is not None:
                await asyncio.wrap_future(pause)


def drain(items: Generator[object, None, None], run: Run, text: bool, step_name: str | None) -> object:
    """Run a generator to its end, tell every item, and return its value."""
    collected: list[object] = []
    try:
        for item in items:
            run.checkpoint()
            collected.append(item)
            if run.listener is not None:
                run.listener("output_delta", step_name, {"delta": item})
    finally:
        items.close()
    return joined(collected, text)


async def drain_async(items: AsyncGenerator[object, None], run: Run, text: bool, step_name: str | None) -> object:
    """Run an async generator to its end, tell every item, and return its value."""
    collected: list[object] = []
    try:
        async for item in items:
            run.checkpoint()
            collected.append(item)
            if run.listener is not None:
                run.listener("output_delta", step_name, {"delta": item})
                if run.room is not None:
                    await run.room()
    finally:
        await items.aclose()
    return joined(collected, text)


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *, name: str | None = None, retries: int = 0, retry_delay: float = 0.0, timeout: float | None = None
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
    retry_delay: float = 0.0,
    timeout: float | None = None,
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Make a function a step.

    `retries` is how often it is tried again after an exception (default 0), with `retry_delay` seconds between
    (default 0). `timeout` is the limit of one attempt in seconds (default none); an async step is cancelled at it, a
    sync one is left behind in its thread, which stays occupied until it ends.
    """

    def decorate(function: Callable[P, R]) -> Step[P, R]:
        return Step(function, name=name, retries=retries, retry_delay=retry_delay, timeout=timeout)

    return decorate if function is None else decorate(function)
