"""An open index: texts in, hits out."""
