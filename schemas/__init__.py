"""What data looks like: episode, document, record, shard files, manifest, config."""
