"""Celery tasks. Each takes ids, calls one use case and returns a small dict; its message may be delivered twice or never.

Each decorator names the task, its queue and its retries. No task retries itself: the request's row keeps what failed, and the reconciler
publishes it again.
"""
