"""Variables of other applications, as a shell may have them."""

from __future__ import annotations

OTHERS = {
    "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
    "CELERY_BROKER_READ_URL": "redis://127.0.0.1:1/0",
    "CELERY_BROKER_WRITE_URL": "redis://127.0.0.1:1/0",
    "CELERY_RESULT_BACKEND": "redis://127.0.0.1:1/0",
    "CELERY_LOADER": "nowhere:Loader",
    "CELERY_CONFIG_MODULE": "nowhere",
    "CELERY_CUSTOM_WORKER_POOL": "nowhere:Pool",
    "CELERY_REPORT_NOTHING": "1",
    "CELERYD_NODES": "w1",
    "BROKER_URL": "redis://127.0.0.1:1/0",
    "RESULT_BACKEND": "redis://127.0.0.1:1/0",
    "DJANGO_SETTINGS_MODULE": "nowhere.settings",
    "KOMBU_LOG_CHANNEL": "",
    "PICKLE_PROTOCOL": "5",
    "PGTZ": "Asia/Tokyo",
    "PGDATESTYLE": "German",
    "PGOPTIONS": "-c search_path=pg_catalog",
    "PGSERVICE": "nowhere",
}
"""What every process of Tango leaves out, with values that would do harm."""
STARTED = {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2", "PYTHONIOENCODING": "ascii", "FLOWER_UNAUTHENTICATED_API": "true"}
"""What the processes of a stack have none of."""
FILLING = {
    "PGHOSTADDR": "127.0.0.1",
    "PGPORT": "1",
    "PGDATABASE": "nowhere",
    "PGUSER": "nobody",
    "PGREQUIREPEER": "nobody1",
    "PGSSLMODE": "require",
    "PGGSSENCMODE": "require",
    "PGCHANNELBINDING": "require",
    "PGTARGETSESSIONATTRS": "standby",
}
"""What fills what a URL of PostgreSQL leaves out."""
PASSED_OVER = {
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "HTTPS_PROXY": "http://127.0.0.1:1",
    "ALL_PROXY": "http://127.0.0.1:1",
    "http_proxy": "http://127.0.0.1:1",
    "KUBECONFIG": "/nowhere",
    "OMP_NUM_THREADS": "64",
    "LC_ALL": "C",
}
"""What is read by nobody, or does no harm."""
