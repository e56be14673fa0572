"""Token labels: their files, and the targets made of them."""
