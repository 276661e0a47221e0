"""The Celery application and one thin main per process."""
