"""One modality, one file: values to token ids and back (gato.md sections 1-4)."""
