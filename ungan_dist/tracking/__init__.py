"""Send curves, verdicts and the report of an audit to a tracker such as TensorBoard, MLflow or W&B."""
