"""Work spread over processes: few tasks under way at a time, and a task that kills its process is found and named."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Generic, TypeVar

Task = TypeVar("Task")
Answer = TypeVar("Answer")
UNDER_WAY = 2  # tasks handed out to each process, so that none waits


class Pool(Generic[Task, Answer]):
    """Runs `work` on tasks in `workers` fresh processes (spawned: no state and no thread of this one is inherited)."""

    def __init__(self, work: Callable[[Task], Answer], workers: int) -> None:
        """work: picklable. With one worker it is called in this process."""
        self._work, self._workers = work, workers

    def answers(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer | None]]:
        """(task, its answer) as they come, None for a task whose process died. What `work` raises ends it all."""
        if self._workers == 1:
            yield from ((task, self._work(task)) for task in tasks)
            return
        remaining = iter(tasks)
        while True:
            suspects: list[Task] = []
            yield from self._run(remaining, self._workers, suspects)
            if not suspects:
                return
            for task in suspects:  # one of them killed its process: each gets its own
                guilty: list[Task] = []
                yield from self._run(iter([task]), 1, guilty)
                yield from ((task, None) for task in guilty)

    def _run(self, tasks: Iterator[Task], workers: int, suspects: list[Task]) -> Iterator[tuple[Task, Answer]]:
        """Answers until the tasks end or a process dies; then `suspects` gets the tasks that have none yet."""
        running: dict[Future[Answer], Task] = {}
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=one_thread) as executor:
            try:
                while True:
                    for task in itertools.islice(tasks, workers * UNDER_WAY - len(running)):
                        running[self._submitted(executor, task, suspects)] = task
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        answer = future.result()
                        yield running.pop(future), answer
            except BrokenProcessPool:
                suspects += running.values()
            finally:
                executor.shutdown(wait=False, cancel_futures=True)

    def _submitted(self, executor: ProcessPoolExecutor, task: Task, suspects: list[Task]) -> Future[Answer]:
        try:
            return executor.submit(self._work, task)
        except BrokenProcessPool:  # it died before this task was handed out
            suspects.append(task)
            raise


def one_thread() -> None:
    """Leave the other cores to the other processes."""
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
