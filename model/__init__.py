"""The Gato model and a thin JAX trainer that streams shards onto a mesh."""
