"""One modality, one file: values to ids and back (specification.md sections 1-4)."""
