"""Image files: finding, reading and writing them with all that they carry."""
