"""Sources of images: folders, tables, saved data sets, the hub, the embedded digits."""
