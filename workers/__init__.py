"""The Celery application, its queues and its publisher, and a small main module for each other process of a stack."""
