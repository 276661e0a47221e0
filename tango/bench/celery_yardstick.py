"""The yardstick of `tango bench live`: no-op tasks per second, one message each, that plain Celery puts through the same broker.

Two rates are measured and the higher one counts: workers drain a queue that was filled before (drain), and workers consume while a
publisher fills the queue (end to end, as Tango's own figure is taken). Both are measured with the prefork and the threads pool, default
prefetch, early acknowledgement, no events, and as many worker processes as Tango has cluster workers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from tango.bench import noop_app
from tango.bench.waiting import wait_until

LIST_KEY = f"tango-bench.{noop_app.QUEUE}"
"""Redis list that holds the queue's messages: Celery's key prefix and the queue's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CeleryRates:
    """Tasks per second of one kind of worker pool."""

    pool: str
    drain_per_s: float
    """From a queue that was filled before, without a publisher that takes CPU."""
    end_to_end_per_s: float
    """From the first publish to the last task consumed."""


def measure(
    broker_url: str, *, workers: int, tasks: int = 6000, pools: tuple[str, ...] = ("prefork", "threads")
) -> list[CeleryRates]:
    """Rates of each pool with `workers` worker processes of concurrency 1 (prefork) or 4 (threads), over `tasks` tasks.

    Raises: TangoError if the workers do not consume the tasks in time.
    """
    os.environ["TANGO_BENCH_BROKER_URL"] = broker_url
    noop_app.app.conf.broker_url = broker_url
    client = redis.Redis.from_url(broker_url)
    return [_measure_pool(client, broker_url, pool, workers, tasks) for pool in pools]


def best(rates: list[CeleryRates]) -> tuple[str, float]:
    """(name, tasks per second) of the highest rate."""
    ways = [(f"raw Celery, {r.pool}, drain", r.drain_per_s) for r in rates]
    ways += [(f"raw Celery, {r.pool}, end to end", r.end_to_end_per_s) for r in rates]
    return max(ways, key=lambda way: way[1])


def _measure_pool(client: redis.Redis, broker_url: str, pool: str, workers: int, tasks: int) -> CeleryRates:
    _clear(client)
    with _workers(broker_url, pool, workers):
        _publish(200)  # warm-up: connections and first imports
        _wait_empty(client, timeout_s=60)
        begin = time.perf_counter()
        _publish(tasks)
        _wait_empty(client, timeout_s=180)
        end_to_end = tasks / (time.perf_counter() - begin)
    # Drain: fill while no worker is there, then time from a sixth to the last, so that start-up does not count.
    _publish(tasks)
    with _workers(broker_url, pool, workers):
        mark = tasks - tasks // 6
        wait_until(
            lambda: client.llen(LIST_KEY) <= mark, timeout_s=60, failure="the yardstick's Celery workers took no tasks within 60 s"
        )
        begin, left = time.perf_counter(), client.llen(LIST_KEY)
        _wait_empty(client, timeout_s=180)
        drain = left / (time.perf_counter() - begin)
    _clear(client)
    return CeleryRates(pool=pool, drain_per_s=drain, end_to_end_per_s=end_to_end)


def _publish(tasks: int) -> None:
    with noop_app.app.producer_or_acquire() as producer:
        for _ in range(tasks):
            noop_app.noop.apply_async(producer=producer)


def _wait_empty(client: redis.Redis, *, timeout_s: float) -> None:
    """Wait until no message is queued, nor delivered without an acknowledgement. Raises: TangoError after `timeout_s`."""
    wait_until(
        lambda: not client.llen(LIST_KEY) and not client.hlen("tango-bench.unacked"),
        timeout_s=timeout_s,
        failure=f"the yardstick's Celery workers did not empty {LIST_KEY} within {timeout_s:.0f} s",
    )


def _clear(client: redis.Redis) -> None:
    for key in client.scan_iter("tango-bench.*"):
        client.delete(key)


@contextmanager
def bare_worker(broker_url: str) -> Iterator[int]:
    """One worker with the pool of threads that has nothing to do; gives its process id."""
    with _workers(broker_url, "threads", 1) as pids:
        yield pids[0]


@contextmanager
def _workers(broker_url: str, pool: str, count: int) -> Iterator[list[int]]:
    environment = {**os.environ, "TANGO_BENCH_BROKER_URL": broker_url}
    concurrency = "1" if pool == "prefork" else "4"
    command = [sys.executable, "-m", "celery", "-A", "tango.bench.noop_app", "worker", "-Q", noop_app.QUEUE, "--pool", pool]
    command += ["--concurrency", concurrency, "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "error"]
    processes = [
        subprocess.Popen(
            [*command, "-n", f"bench{k}@%h"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for k in range(count)
    ]
    try:
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(timeout=15)
