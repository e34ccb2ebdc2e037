"""Threads and queues: order, bounds, and a clean end whichever of them fails."""

from __future__ import annotations

import threading
import time

import pytest

from latentsync.pipelines.progress import Progress, ProgressReporter, Stopwatch
from latentsync.pipelines.stream import Crew


class Fault(Exception):
    """Injected."""


def crew_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name in ("prefetch", "drain")]


def test_everything_arrives_in_order() -> None:
    arrived: list[int] = []
    with Crew() as crew:
        sink = crew.drain(arrived.append, 3)
        for item in crew.prefetch(range(200), 2):
            sink.put(item)
    assert arrived == list(range(200))
    assert not crew_threads()


def test_a_producer_runs_only_so_far_ahead() -> None:
    made: list[int] = []

    def source():
        for item in range(1000):
            made.append(item)
            yield item

    with Crew() as crew:
        items = crew.prefetch(source(), 4)
        for _ in range(10):
            next(items)
        time.sleep(0.2)
        assert len(made) <= 10 + 4 + 1
    assert not crew_threads()


@pytest.mark.parametrize("place", ["producer", "main", "consumer"])
@pytest.mark.parametrize("kind", [Fault, KeyboardInterrupt, MemoryError])
def test_a_failure_anywhere_ends_all_threads(place: str, kind: type[BaseException]) -> None:
    closed = threading.Event()

    def source():
        try:
            for item in range(10_000):
                if place == "producer" and item == 5:
                    raise kind("injected")
                yield item
        finally:
            closed.set()

    def consume(item: int) -> None:
        if place == "consumer" and item == 5:
            raise kind("injected")

    start = time.monotonic()
    with pytest.raises(kind, match="injected"), Crew() as crew:
        sink = crew.drain(consume, 2)
        for item in crew.prefetch(source(), 2):
            if place == "main" and item == 5:
                raise kind("injected")
            sink.put(item)
    assert time.monotonic() - start < 30
    assert closed.is_set() and not crew_threads()


def test_a_failure_in_the_last_item_is_not_lost() -> None:
    def consume(item: int) -> None:
        time.sleep(0.02)
        if item == 9:
            raise Fault("at the end")

    with pytest.raises(Fault, match="at the end"), Crew() as crew:
        sink = crew.drain(consume, 20)
        for item in range(10):
            sink.put(item)


def test_a_failure_behind_the_last_item_that_is_wanted_is_not_lost() -> None:
    enough = threading.Event()

    def source():
        yield from range(3)
        assert enough.wait(30)
        raise Fault("while closing")

    with pytest.raises(Fault, match="while closing"), Crew() as crew:
        items = crew.prefetch(source(), 5)
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        enough.set()
        crew._stop.wait(30)
    assert not crew_threads()


def test_a_stage_inside_another_counts_for_itself_only(monkeypatch) -> None:
    now = [0.0]
    monkeypatch.setattr("latentsync.pipelines.progress.time.perf_counter", lambda: now[0])
    watch = Stopwatch()

    def slow():
        for item in range(3):
            now[0] += 2
            yield item

    def outer():
        for item in watch.each("inner", slow()):
            now[0] += 1
            yield item

    assert list(watch.each("outer", outer())) == [0, 1, 2]
    assert watch.seconds == {"inner": 6, "outer": 3}


def test_progress_is_told_to_a_callable() -> None:
    told: list[Progress] = []
    reporter = ProgressReporter(told.append, expected_frames=20)
    for _ in range(20):
        reporter.frame()
    reporter.close()
    assert [now.percent for now in told] == [*range(5, 101, 5), 100]
    assert [now.frames for now in told] == [*range(1, 21), 20]
    assert told[-1].stage == "done" and told[-1].eta == 0
    assert [now.eta is None for now in told] == [True] * 15 + [False] * 6, "the first frames say little"


def test_progress_without_a_terminal_is_plain_lines(capsys) -> None:
    reporter = ProgressReporter(True, expected_frames=None)
    for _ in range(100):
        reporter.frame()
    reporter.close()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["done: 100 %, 100 frames, 0 s to go"]
