"""The app that `celery -A heimdall_jax.jobs.app worker --pool prefork --concurrency 1` serves."""

from celery import Celery

from heimdall_jax.jobs.settings import celery_settings

app = Celery("heimdall", include=["heimdall_jax.jobs.tasks"])
app.conf.update(celery_settings())
