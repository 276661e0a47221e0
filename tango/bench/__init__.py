"""Yardsticks: what Tango does, measured beside something well known in the same run, because machines differ and drift."""
