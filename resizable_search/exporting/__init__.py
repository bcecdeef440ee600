"""Write an index in the form of other programs: Parquet, datasets, faiss, usearch."""
