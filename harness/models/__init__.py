"""Where models come from, how they are loaded and how their tokenizers lay out a row."""
