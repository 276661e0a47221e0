"""A job: counts the primes below a number, which is its argument."""

from __future__ import annotations

import sys


def primes_below(end: int) -> int:
    """Their number, by the sieve of Eratosthenes."""
    is_prime = bytearray([1]) * max(end, 2)
    is_prime[:2] = b"\0\0"
    for k in range(2, int(end**0.5) + 1):
        if is_prime[k]:
            is_prime[k * k :: k] = bytes(len(range(k * k, len(is_prime), k)))
    return sum(is_prime)


if __name__ == "__main__":
    print(f"{primes_below(int(sys.argv[1]))} primes below {sys.argv[1]}")
