"""The formats of data sets on disk, each read into columns and a label map."""
