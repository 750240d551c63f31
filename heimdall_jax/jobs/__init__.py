"""The Celery app: training, evaluation, export and publishing as tasks; a thin door on what the scripts call."""
