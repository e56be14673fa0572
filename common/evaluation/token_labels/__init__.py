"""Writing of token labels with a trained classifier as the teacher."""
