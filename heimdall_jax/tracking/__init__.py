"""Where runs are recorded and models registered: MLflow, embedded or at a server. The only door to it."""
