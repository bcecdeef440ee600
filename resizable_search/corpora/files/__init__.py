"""People's own text: folders and files of many formats, as a corpus (`corpus.FilesCorpus`).

`walking` finds the files, `opening` unpacks them, `decoding` makes text of bytes, `formats` makes a
document of a file, and `tables` makes one of each record of a table.
"""
