"""Data for re-identification: identities by cameras, published layouts, PK sampling, hold-outs."""
