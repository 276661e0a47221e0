"""Celery tasks, thin: ids in, one use case called, a small dict out. Every task may run twice or never.

Name, queue and retry rule stand at each decorator. No task retries itself: what failed stays in its row, and the reconciler
publishes it again.
"""
