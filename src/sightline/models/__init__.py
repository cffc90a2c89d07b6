"""The systems, one file a paper, and the catalog that names them."""
