import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from asgipipe.pipelines.context import Environment, Run
from asgipipe.pipelines.deadlines import Deadlines
from asgipipe.pipelines.executor import ThreadExecutor


@dataclass
class Timer:
    """What `call_later` returned; the test decides when it fires."""

    delay: float
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Scene:
    """Deadlines under a clock of the test's own, with the timers they asked the event loop for."""

    now: float = 1000.0
    timers: list[Timer] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    expired: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deadlines = Deadlines(self.runs.values, self.expire, lambda: self.now)

    def expire(self, run: Run) -> None:
        self.expired.append(run.id)
        del self.runs[run.id]

    def open(self, name: str, deadline: float | None) -> Run:
        run = self.runs[name] = Run(name, name, {}, Environment(ThreadExecutor(1)))
        run.deadline = deadline
        if deadline is not None and deadline < self.deadlines.next:
            self.deadlines.arm(deadline)
        return run

    def armed(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def fire(self, now: float) -> None:
        """Let the one armed timer fire at `now`."""
        (timer,) = self.armed()
        self.now = now
        self.timers.remove(timer)
        timer.callback()


def play(story: Callable[[Scene], None]) -> None:
    """Tell a story on an event loop that hands out the scene's timers."""

    async def main() -> None:
        scene = Scene()

        def call_later(delay: float, callback: Callable[[], None]) -> Timer:
            scene.timers.append(Timer(delay, callback))
            return scene.timers[-1]

        asyncio.get_running_loop().call_later = call_later  # type: ignore[method-assign,assignment]  # see above
        story(scene)

    asyncio.run(main())


def test_there_is_one_timer_however_many_deadlines() -> None:
    """A hundred runs with later and later deadlines are watched by the first one's timer."""

    def story(scene: Scene) -> None:
        for number in range(100):
            scene.open(f"run-{number}", 1010.0 + number)
        assert [(timer.delay, timer.cancelled) for timer in scene.timers] == [(10.0, False)]

    play(story)


def test_an_earlier_deadline_arms_the_timer_again() -> None:
    """The timer waits for the earliest deadline, whichever run came first."""

    def story(scene: Scene) -> None:
        scene.open("late", 1060.0)
        scene.open("early", 1005.0)
        assert [timer.delay for timer in scene.armed()] == [5.0]
        scene.fire(1005.0)
        assert scene.expired == ["early"]
        assert [timer.delay for timer in scene.armed()] == [55.0]
        scene.fire(1060.0)
        assert scene.expired == ["early", "late"]
        assert scene.armed() == []

    play(story)


def test_every_deadline_that_passed_acts_at_once() -> None:
    """One wake-up, late or on time, expires all runs that are due and no other; those without a deadline stay."""

    def story(scene: Scene) -> None:
        for name, deadline in (("a", 1001.0), ("b", 1002.0), ("none", None), ("c", 1003.0)):
            scene.open(name, deadline)
        scene.fire(1002.0)
        assert scene.expired == ["a", "b"]
        assert [*scene.runs] == ["none", "c"]
        assert [timer.delay for timer in scene.armed()] == [1.0]

    play(story)


def test_a_run_expires_once() -> None:
    """A run that is still open after its deadline acted, because its thread goes on, is not told again."""

    def story(scene: Scene) -> None:
        expired: list[str] = []
        deadlines = scene.deadlines = Deadlines(
            scene.runs.values, lambda run: expired.append(run.id), lambda: scene.now
        )
        scene.open("abandoned", 1001.0)
        scene.open("other", 1002.0)
        scene.fire(1001.0)
        scene.fire(1002.0)
        assert expired == ["abandoned", "other"]
        assert deadlines.next == float("inf")

    play(story)


def test_a_run_that_ended_in_time_needs_no_timer() -> None:
    """Its timer finds nothing to do and is not armed again; the next run arms one of its own."""

    def story(scene: Scene) -> None:
        scene.open("quick", 1001.0)
        del scene.runs["quick"]
        scene.fire(1001.0)
        assert (scene.expired, scene.armed()) == ([], [])
        scene.open("next", 1009.0)
        assert [timer.delay for timer in scene.armed()] == [8.0]

    play(story)


def test_a_deadline_that_has_passed_already_acts_on_the_next_turn() -> None:
    """A delay is never negative."""

    def story(scene: Scene) -> None:
        scene.open("past", 990.0)
        assert [timer.delay for timer in scene.armed()] == [0.0]
        scene.fire(1000.0)
        assert scene.expired == ["past"]

    play(story)


def test_a_timer_that_fires_too_early_waits_for_the_rest() -> None:
    """The loop's clock and ours may differ by a little: nothing expires before its time."""

    def story(scene: Scene) -> None:
        scene.open("a", 1010.0)
        scene.fire(1009.5)
        assert scene.expired == []
        assert [timer.delay for timer in scene.armed()] == [0.5]

    play(story)


def test_after_closing_no_deadline_acts() -> None:
    """The timer is given up, and a later deadline arms a new one."""

    def story(scene: Scene) -> None:
        scene.open("a", 1010.0)
        scene.deadlines.close()
        assert scene.armed() == []
        scene.deadlines.close()
        scene.open("b", 1020.0)
        assert [timer.delay for timer in scene.armed()] == [20.0]

    play(story)
