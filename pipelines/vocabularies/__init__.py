"""How `gato-vocabulary` samples text, trains on it, and judges the model."""
