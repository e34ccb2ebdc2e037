"""Threads around the main one, joined by bounded queues, that all stop when one of them fails."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

Item = TypeVar("Item")

POLL_SECONDS = 0.1  # how long a waiting thread may take to see that another one failed
_END = object()


class _Stopped(BaseException):
    """Raised inside a waiting thread when the others have stopped."""


class Crew:
    """A context in which threads work for the main thread.

    An exception in any of them is raised in the main thread at its next wait; an exception in the main thread (also
    KeyboardInterrupt) stops them. When the context is left, all of them have ended.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._drains: list[Drain] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                for drain in self._drains:
                    drain.finish()
        except _Stopped as stopped:
            error = stopped
        finally:
            self._halt()
        if self._failure is not None and (error is None or isinstance(error, _Stopped)):
            raise self._failure  # also one that came after the last item: it must not be lost

    def prefetch(self, items: Iterable[Item], size: int) -> Iterator[Item]:
        """Iterate over `items` in a thread that runs at most `size` items ahead."""
        waiting: queue.Queue = queue.Queue(size)

        def work() -> None:
            try:
                for item in items:
                    self.put(waiting, item)
                self.put(waiting, _END)
            finally:
                if isinstance(items, Generator):
                    items.close()

        self._start(work, "prefetch")
        while (item := self.get(waiting)) is not _END:
            yield item  # type: ignore[misc]

    def drain(self, consume: Callable[[Item], None], size: int) -> Drain[Item]:
        """A thread that calls `consume` on every item given to it, in order; at most `size` wait."""
        drain = Drain(self, consume, size)
        self._drains.append(drain)
        self._start(drain.work, "drain")
        return drain

    def put(self, waiting: queue.Queue, item: object) -> None:
        """Put into a queue of this crew; returns only when there was room, raises when the crew stopped."""
        while True:
            self._check()
            try:
                return waiting.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue  # look again whether the crew has stopped

    def get(self, waiting: queue.Queue) -> object:
        """Get from a queue of this crew; raises when the crew stopped."""
        while True:
            self._check()
            try:
                return waiting.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue  # look again whether the crew has stopped

    def _check(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _start(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except _Stopped:
            return
        except BaseException as error:  # not swallowed: the main thread raises it
            self._failure = self._failure or error
            self._stop.set()

    def _halt(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Drain(Generic[Item]):
    """The receiving end of `Crew.drain`."""

    def __init__(self, crew: Crew, consume: Callable[[Item], None], size: int) -> None:
        self._crew, self._consume = crew, consume
        self._waiting: queue.Queue = queue.Queue(size)
        self._done = threading.Event()

    def put(self, item: Item) -> None:
        """Hand over an item; waits while the queue is full."""
        self._crew.put(self._waiting, item)

    def finish(self) -> None:
        """Wait until everything given has been consumed."""
        self._crew.put(self._waiting, _END)
        while not self._done.wait(POLL_SECONDS):
            self._crew._check()

    def work(self) -> None:
        """The thread's body."""
        while (item := self._crew.get(self._waiting)) is not _END:
            self._consume(item)  # type: ignore[arg-type]
        self._done.set()
