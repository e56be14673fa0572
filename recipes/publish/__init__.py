"""Published results: those of studies in small text files under docs/, and the numbers of the documents, made from them."""
