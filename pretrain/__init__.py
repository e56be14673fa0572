"""The first stage: self-supervised pre-training by DINO."""
