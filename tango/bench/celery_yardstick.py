"""Raw Celery at its best: how many no-op tasks per second, one message each, go through the same broker on this machine.

Two ways are measured and the faster counts: workers drain a queue that was filled before they are looked at, and workers
consume while a publisher fills the queue beside them (end to end, as Tango's own figure is). Both with the prefork and the
threads pool, default prefetch, early acknowledgement, no events, and as many worker processes as Tango has cluster workers.
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

LIST_KEY = f"tango-bench.{noop_app.QUEUE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CeleryRates:
    """Tasks per second of one pool."""

    pool: str
    drain_per_s: float
    """Filled queue, no publisher beside."""
    end_to_end_per_s: float
    """From the first publish to the last task consumed."""


def measure(
    broker_url: str, *, workers: int, tasks: int = 6000, pools: tuple[str, ...] = ("prefork", "threads")
) -> list[CeleryRates]:
    """Rates of each pool with `workers` worker processes of concurrency 1 (prefork) or 4 (threads)."""
    os.environ["TANGO_BENCH_BROKER_URL"] = broker_url
    noop_app.app.conf.broker_url = broker_url
    client = redis.Redis.from_url(broker_url)
    return [_measure_pool(client, broker_url, pool, workers, tasks) for pool in pools]


def best(rates: list[CeleryRates]) -> tuple[str, float]:
    """The fastest way and its tasks per second."""
    ways = [(f"raw Celery, {r.pool}, drain", r.drain_per_s) for r in rates]
    ways += [(f"raw Celery, {r.pool}, end to end", r.end_to_end_per_s) for r in rates]
    return max(ways, key=lambda way: way[1])


def _measure_pool(client: redis.Redis, broker_url: str, pool: str, workers: int, tasks: int) -> CeleryRates:
    _clear(client)
    with _workers(broker_url, pool, workers):
        _publish(200)
        _wait_empty(client, timeout_s=60)
        begin = time.perf_counter()
        _publish(tasks)
        _wait_empty(client, timeout_s=180)
        end_to_end = tasks / (time.perf_counter() - begin)
    # Drain: fill while no worker is there, then time from a sixth to the last, so that start-up does not count.
    _publish(tasks)
    with _workers(broker_url, pool, workers):
        mark = tasks - tasks // 6
        while client.llen(LIST_KEY) > mark:
            time.sleep(0.005)
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
    """Wait until nothing is queued or delivered and not acknowledged."""
    deadline = time.monotonic() + timeout_s
    while client.llen(LIST_KEY) or client.hlen("tango-bench.unacked"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the yardstick's workers did not empty {LIST_KEY} within {timeout_s:.0f} s")
        time.sleep(0.005)


def _clear(client: redis.Redis) -> None:
    for key in client.scan_iter("tango-bench.*"):
        client.delete(key)


@contextmanager
def _workers(broker_url: str, pool: str, count: int) -> Iterator[None]:
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
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
