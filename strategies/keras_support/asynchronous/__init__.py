"""Training with parameter servers, where each worker takes steps at its own pace."""
