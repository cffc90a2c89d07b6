"""Predict many images by several workers, and write the results as parts of a Parquet dataset.

`job` decides what is left to do, `engines` hand out chunks of images to workers, `chunk` predicts one and writes its
part, `tables` turns results into rows and back, `files` reads and writes on local and remote file systems.
"""
