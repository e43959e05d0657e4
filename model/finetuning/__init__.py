"""Fine-tuning on a few demonstrations (the parts of gato-finetune)."""
