"""People's own text: folders and files of many formats, as a corpus."""
