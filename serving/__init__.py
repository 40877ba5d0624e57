"""What answers: the model that MLflow starts, and a client for it."""
