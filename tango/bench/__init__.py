"""Benchmarks. Each measures Tango beside something well known in the same run, because machines differ and drift over the day."""
