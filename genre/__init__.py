"""Music genre classification: audio to features and spectrograms to probabilities. Knows neither Prefect nor MLflow."""
