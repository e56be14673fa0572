"""The first stage: self-supervised pre-training with DINO."""
